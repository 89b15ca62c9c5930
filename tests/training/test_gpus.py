"""What a host with several GPUs needs, on stubs of the driver and of the environment: which GPUs are free, the share of
each run, how numbers are computed, and data workers whatever Python's own way to start processes is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lsc_engine.common.errors import UsageError
from lsc_engine.common.hardware import RUNS_HERE, Sampler, memory_of
from lsc_engine.data import stream
from lsc_engine.studies import gpus, runner
from lsc_engine.studies.checks import ExecutionOptions
from lsc_engine.studies.gpus import Slot, gpu_slots, share_host
from lsc_engine.studies.plan import plan_study
from lsc_engine.training import devices
from lsc_engine.training.execute import execute
from lsc_engine.training.job import Job
from lsc_engine.training.signals import Signals

from .stages import BASE

GB = 2**30


class Driver:
    """NVML of a host: GPU 0 whole, GPU 1 divided into two instances, GPU 2 divided and empty, GPU 3 whole and in use.
    The driver keeps 2 GB of every GPU for itself. An `old` one has neither MIG nor the second form of memory."""

    class NVMLError(Exception):
        """As NVML raises for what a driver does not know."""

    def __init__(self, old: bool = False) -> None:
        self.old = old
        if not old:
            self.nvmlMemory_v2 = 2

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return 4

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return f"GPU-{index}abc"

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        return handle

    def nvmlDeviceGetMemoryInfo(self, handle: str, version: int = 1) -> SimpleNamespace:
        used = 9 * GB if handle == "GPU-3abc" else 0
        return SimpleNamespace(used=used + (2 * GB if version == 1 else 0), total=80 * GB)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[int]:
        return [1] if handle == "MIG-two" else []

    def nvmlDeviceGetMigMode(self, handle: str) -> list[int]:
        if self.old:
            raise self.NVMLError
        return [1, 1] if handle in ("GPU-1abc", "GPU-2abc") else [0, 0]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: str) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: str, place: int) -> str:
        if handle == "GPU-1abc" and place in (0, 3):
            return {0: "MIG-one", 3: "MIG-two"}[place]
        raise self.NVMLError


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    monkeypatch.setitem(sys.modules, "pynvml", made)  # type: ignore[arg-type]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return made


def labels(wanted: str) -> str:
    return " ".join(slot.label.removeprefix("GPU ") for slot in gpu_slots(wanted))


def test_free_gpus_and_instances_of_divided_ones(driver: Driver) -> None:
    assert labels("auto") == "0 1:0"
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in gpu_slots("auto")] == ["GPU-0abc", "MIG-one"]
    # A divided GPU is its first instance, as it is for CUDA.
    assert labels("3,MIG-two,1") == "3 1:1 1:0"
    with pytest.raises(UsageError, match=r"no GPU 2 here\. There are: 0, 1:0, 1:1, 3"):
        gpu_slots("2")


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        ("0,3", "0 3"), ("3", "3"), ("GPU-3", "3"), ("MIG-two", "1:1"), ("MIG-one,GPU-0abc", "1:0 0"), ("1", "1:0"),
        ("GPU-1abc", "1:0"), ("3,2,0", "3"), ("GPU-,3", ""), ("", ""), ("-1", ""),
    ],
)  # fmt: skip
def test_a_schedulers_gpus_by_number_or_uuid(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, visible: str, found: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert " ".join(gpu.number for gpu in gpus._list_gpus()) == found


def test_memory_in_use_is_without_the_drivers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory_of(Driver(), "GPU-0abc").used == 0
    assert memory_of(Driver(old=True), "GPU-0abc").used == 2 * GB
    sampler = Sampler()
    sampler._opened, sampler._nvml, sampler._handles = True, Driver(), ["GPU-3abc"]
    assert sampler.sample(None).gpus[0].memory == 9 * GB
    # An old driver counts its own memory in, and no GPU of it is idle.
    monkeypatch.setitem(sys.modules, "pynvml", Driver(old=True))  # type: ignore[arg-type]
    assert labels("0,1,2") == "0 1 2"


def test_runs_share_the_processors_of_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS", RUNS_HERE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(32)))
    slots = [Slot(f"GPU {number}", "cuda", {"CUDA_VISIBLE_DEVICES": str(number)}) for number in range(8)]

    def environment(runs: int, processes: int = 1, slots: list[Slot] = slots) -> dict[str, str]:
        (found,) = {
            tuple(sorted(slot.environment.items())) for slot in share_host(slots[:1] * len(slots), runs, processes)
        }
        return dict(found)

    def shares(cores: int, runs: int) -> dict[str, str]:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS"), str(cores))
        return {"CUDA_VISIBLE_DEVICES": "0", RUNS_HERE: str(runs), **threads}

    assert environment(100) == shares(4, 8)
    # No more than there are runs; processes of a run share its part.
    assert environment(2) == shares(16, 2)
    assert environment(100, 4, slots[:2]) == shares(4, 2)
    assert environment(100, 16) == shares(1, 8)
    assert environment(1) == {"CUDA_VISIBLE_DEVICES": "0"}
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert "OMP_NUM_THREADS" not in environment(100)

    monkeypatch.delenv("OMP_NUM_THREADS")
    # The command that trains a study divides them so.
    monkeypatch.setattr(runner, "gpu_slots", lambda wanted, each: slots[:1] * 8)
    monkeypatch.setattr(runner, "run_parallel", lambda queue, slots: {str(slot.environment): queue for slot in slots})
    work: Any = runner._parallel([Any] * 4, ExecutionOptions(Path("runs"), gpus="auto"))  # type: ignore[list-item]
    assert work("queue") == {str(shares(8, 4)): "queue"}

    assert stream.default_workers() == 16
    for runs, workers in ((2, 16), (8, 4), (64, 1)):
        monkeypatch.setenv(RUNS_HERE, str(runs))
        assert stream.default_workers() == workers


@pytest.fixture
def flags(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch's switches, as they were before."""
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = cuda.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    yield
    cuda.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before
    torch.use_deterministic_algorithms(False)
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


@pytest.mark.usefixtures("flags")
def test_float32_is_float32_and_deterministic_kernels_are_as_long_as_their_run() -> None:
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    products, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn

    def found() -> tuple[bool, bool, bool, bool, bool]:
        strict = torch.are_deterministic_algorithms_enabled()
        return products.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, strict, "CUBLAS_WORKSPACE_CONFIG" in os.environ

    # torch's own: convolutions in TF32, products not.
    cudnn.allow_tf32, products.allow_tf32 = True, False
    devices.set_numerics(cpu, torch.bfloat16, True)
    assert found() == (False, True, False, False, False)
    devices.set_numerics(cuda, None, False)
    assert found() == (False, False, False, False, False)
    devices.set_numerics(cuda, torch.bfloat16, False)
    assert found() == (False, False, True, False, False)
    for dtype in (torch.bfloat16, None):
        devices.set_numerics(cuda, dtype, True)
        assert found() == (False, False, False, True, True)
    # The next run of a study in the same process.
    devices.set_numerics(cuda, torch.bfloat16, False)
    assert found()[:4] == (False, False, True, False)


def test_a_run_on_another_gpu_makes_it_the_current_one_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the thread that pins memory makes a context on GPU 0."""
    order: list[object] = []

    def opened(*given: object, **more: object) -> None:
        order.append("opened")
        raise Stopped

    class Stopped(Exception):
        """Far enough."""

    file = tmp_path / "t.toml"
    file.write_text(BASE)
    (run,) = plan_study(file, name="t").runs
    monkeypatch.setattr(torch.cuda, "set_device", order.append)
    monkeypatch.setattr("lsc_engine.training.execute.device_name", lambda device: "a GPU")
    monkeypatch.setattr("lsc_engine.training.execute.RunWriter.open", opened)
    with pytest.raises(Stopped):
        execute(Job(tmp_path / "t", tmp_path), run.config, device=torch.device("cuda:1"), signals=Signals())
    assert order == [torch.device("cuda:1"), "opened"]


@pytest.mark.parametrize(("capability", "auto"), [((7, 5), None), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)])
def test_bf16_where_a_gpu_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], auto: torch.dtype | None
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    cuda = torch.device("cuda")
    assert devices.autocast_dtype("auto", cuda) == auto
    assert devices.autocast_dtype("bf16", cuda) == torch.bfloat16
    assert devices.autocast_dtype("float32", cuda) is None
    assert devices.autocast_dtype("auto", torch.device("cpu")) is None


WORKERS = """
import multiprocessing, os, sys
multiprocessing.set_start_method(sys.argv[1])
import torch
from types import SimpleNamespace
from lsc_engine.data.stream import stream

here, seen = os.getpid(), []
def read(index):  # of this process alone: only a fork has it
    return torch.full((len(index), 1, 2, 2), int(os.getpid() != here), dtype=torch.uint8)

reader = SimpleNamespace(channels=1, size=2, read=lambda index: read(index))
for images in stream(reader, iter(torch.arange(40).split(10)), workers=2):
    seen += images.flatten().tolist()
print(len(seen), set(seen))
"""


def test_data_workers_are_forked_whatever_is_pythons_default() -> None:
    """forkserver from Python 3.14 on: workers would import everything anew and see signals."""
    done = subprocess.run(
        [sys.executable, "-c", WORKERS, "forkserver"], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.stdout.split() == ["160", "{1}"], done.stderr
