"""machine.jsonl: what is sampled, by whom, and what is made of it."""

from __future__ import annotations

import json
import random
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from lsc_engine.common.hardware import Gpu, Hardware, Sampler
from lsc_engine.runs.folder import machine
from lsc_engine.runs.folder.lock import LostRunError
from lsc_engine.runs.folder.machine import BUSY, THROTTLED, MachineRecorder, load_record, slowed_by
from lsc_engine.runs.folder.writer import MetricsLog, RunWriter
from lsc_engine.runs.metrics.machine import MachineTail, Sample
from lsc_engine.runs.read.run import open_run
from tests.waiting import wait_until

from .conftest import MakeRun

GPUS = (
    Gpu(3, util=97.0, memory=33e9, power=612.4, temperature=71.0, clock=1980.0, throttled=("sw_power_cap",)),
    Gpu(5, util=43.0, memory=3e9, power=200.0, temperature=88.0, clock=900.0, throttled=("hw_thermal_slowdown",)),
)
SAMPLE = Sample(1e9, 120, 0.75, 0.125, Hardware(GPUS, cpu=43.25, memory=12e9, disk_free=7e11))


def sample(step: int, time: float = 0.0, load: float = 0.5, **values: float) -> Sample:
    return Sample(time, step, load, None, Hardware(**values))  # type: ignore[arg-type]


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_a_line_is_as_it_is_documented() -> None:
    row = json.loads(SAMPLE.line())
    assert row == {
        "time": 1e9, "step": 120, "cpu": 0.4325, "load": 0.75, "memory": 12_000_000_000, "disk": 700_000_000_000,
        "data_wait": 0.125,
        "gpu": [
            {"index": 3, "use": 0.97, "memory": 33_000_000_000, "power": 612.4, "temperature": 71.0, "clock": 1980.0,
             "throttled": ["sw_power_cap"]},
            {"index": 5, "use": 0.43, "memory": 3_000_000_000, "power": 200.0, "temperature": 88.0, "clock": 900.0,
             "throttled": ["hw_thermal_slowdown"]},
        ],
    }  # fmt: skip
    assert Sample.parse(SAMPLE.line()) == SAMPLE
    nothing = sample(0)
    assert Sample.parse(nothing.line()) == nothing


def test_values_are_over_the_gpus_of_the_run_and_of_each() -> None:
    values = SAMPLE.values()
    assert values["machine/gpu_use"] == pytest.approx(0.70)
    assert values["machine/gpu_memory_gb"] == 36
    assert values["machine/gpu_power_w"] == pytest.approx(812.4)
    assert values["machine/gpu_temperature_c"] == 88
    assert values["machine/gpu_clock_mhz"] == 900
    assert values["machine/gpu_throttled/3"] == 0
    assert values["machine/gpu_throttled/5"] == values["machine/gpu_throttled"] == 1
    one = replace(SAMPLE, hardware=Hardware(GPUS[:1])).values()
    assert set(one) == {
        "machine/load", "machine/data_wait",
        *(f"machine/gpu_{name}" for name in ("use", "memory_gb", "power_w", "temperature_c", "clock_mhz", "throttled")),
    }  # fmt: skip


def test_a_torn_or_hostile_line_is_no_sample_and_no_error(tmp_path: Path) -> None:
    line = SAMPLE.line().rstrip(b"\n")
    assert all(Sample.parse(line[:size]) is None for size in range(len(line)))
    rng = random.Random(0)
    strange = [b"null", b"[]", b'{"step":-1,"time":0}', b'{"step":1e3,"time":0}', b'{"step":1}', b"[" * 10**5]
    strange += [b'{"step":1,"time":0,"gpu":[1,{"index":"x","use":1e999,"throttled":[{}]}],"cpu":"1"}']
    strange += [b'{"step":1,"time":0,"gpu":[' + b",".join([b'{"use":1e308,"memory":1e308}'] * 99) + b"]}"]
    for _ in range(2000):
        bent = bytearray(line)
        for _ in range(rng.randint(1, 6)):
            bent[rng.randrange(len(bent))] = rng.randrange(32, 256)
        strange.append(bytes(bent))
    path = tmp_path / "machine.jsonl"
    path.write_bytes(b"\n".join([*strange, line]) + b"\n" + line[:40])
    tail = MachineTail(path)
    tail.poll()
    assert tail.problem is None
    assert tail.table.newest_sample == SAMPLE
    for name in tail.table.names:
        step, values = tail.table.series(name)
        assert (np.diff(step) > 0).all()
        assert np.isfinite(values).all()


def test_steps_done_again_replace_what_was_sampled_of_them(tmp_path: Path) -> None:
    """By brute force: of each step the last sample, and none that a later one lies before."""
    rng = random.Random(1)
    steps = [step for _ in range(5) for step in sorted(rng.choices(range(rng.randrange(400), 500), k=40))]
    lines = [sample(step, load=number).line() for number, step in enumerate(steps)]
    path = tmp_path / "machine.jsonl"
    tail = MachineTail(path)
    with path.open("ab") as file:
        for line in lines:
            file.write(line)
            file.flush()
            tail.poll()
    kept = [(step, i) for i, step in enumerate(steps) if all(later > step for later in steps[i + 1 :])]
    found = tail.table.series("machine/load")
    assert list(zip(*(array.tolist() for array in found), strict=True)) == kept


def recorder(writer: RunWriter, monkeypatch: pytest.MonkeyPatch, every: float = 0.005) -> MachineRecorder:
    monkeypatch.setattr(machine, "EVERY", every)
    monkeypatch.setattr(machine, "_FIRST", every)
    return MachineRecorder(writer)


def opened(folder: Path) -> RunWriter:
    return RunWriter.open(folder, device="cpu", total_steps=100, echo=False)


def test_a_run_samples_its_machine_in_the_background(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run()
    path = folder / "machine.jsonl"
    path.write_bytes(b'{"time": 1, "st')
    with opened(folder) as writer:
        found = recorder(writer, monkeypatch)
        waited = iter(np.arange(10**6) * 1e6)
        found.data_waited = lambda: float(next(waited))
        wait_until(lambda: path.stat().st_size > 2000)
        writer.heartbeat(7)
        found.stop()
        load = found.record()
    torn, *lines = path.read_bytes().splitlines()
    assert torn == b'{"time": 1, "st'
    last = json.loads(lines[-1])
    assert last["step"] == 7
    assert 0 <= last["cpu"] <= 1
    assert 0 < last["memory"] <= psutil.virtual_memory().total
    assert last["disk"] > 0
    assert last["data_wait"] == 1.0
    assert last["gpu"] == []
    assert not any(thread.name == "machine" for thread in threading.enumerate())
    size = path.stat().st_size
    loads = [json.loads(line)["load"] for line in lines]
    assert load["peak"] == pytest.approx(max(loads) * load["processors"], abs=0.01)
    # A run that was killed has no record: its samples stand for it.
    run = open_run(folder)
    assert run.source.get("load") is None
    assert run.load == load_record(run.history("machine/load")[1].tolist(), [])
    with opened(folder) as writer:
        on_more = MachineRecorder(writer, before={"processors": 1, "load": 9.0, "peak": 9.5})
        on_more.stop()
        assert on_more.record()["load"] == 9.0 * load["processors"]
        again = MachineRecorder(writer, before={"load": 1e6, "waited": 0.5, "throttled": True})
        again.stop()
        worse = again.record()
    assert path.stat().st_size > size
    assert worse["load"] == 1e6
    assert worse["waited"] >= 0.5
    assert json.loads(json.dumps(worse)) == worse


def test_a_full_disk_keeps_some_samples_for_later(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_MAX_PENDING", 5)
    with opened(make_run()) as writer:
        monkeypatch.setattr(machine, "MetricsLog", lambda path, **options: MetricsLog(Path("/dev/full"), **options))
        found = recorder(writer, monkeypatch)
        log = found._log
        wait_until(lambda: log.error is not None and len(log._pending) == 5)
        newest = log._pending[-1]
        wait_until(lambda: newest not in log._pending)
        log._path, log._descriptor = tmp_path / "m", None
        found.stop()
        assert writer.troubles == {}
    assert len(rows(tmp_path / "m")) >= 5


def test_a_driver_that_hangs_does_not_delay_the_end(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    monkeypatch.setattr(machine, "_PATIENCE", 0.05)
    monkeypatch.setattr(Sampler, "sample", lambda self, folder: answer.wait() and Hardware())
    with opened(make_run()) as writer:
        found = recorder(writer, monkeypatch)
        found.stop()
        assert found._thread.is_alive()
        assert found.record()["load"] is None
        answer.set()
        found._thread.join()


def test_the_run_of_another_process_is_not_written_into(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run()
    with opened(folder) as writer:

        def taken() -> None:
            raise LostRunError("another process trains it")

        monkeypatch.setattr(writer, "check", taken)
        found = recorder(writer, monkeypatch)
        found._thread.join()
        monkeypatch.undo()
    assert not (folder / "machine.jsonl").exists() or not rows(folder / "machine.jsonl")


class Driver:
    """NVML as far as it is used, of two GPUs; `reasons` by the older name alone where `old`."""

    NVML_CLOCK_SM = 1

    def __init__(self, *, old: bool, processes: int) -> None:
        self.seen: list[str] = []
        self.processes = [SimpleNamespace(pid=2**22 + i) for i in range(processes)]
        name = "nvmlDeviceGetCurrentClocksThrottleReasons" if old else "nvmlDeviceGetCurrentClocksEventReasons"
        setattr(self, name, lambda handle: {"GPU-a": 0x1, "GPU-b": 0x4 | 0x40}[handle])

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        self.seen.append(uuid)
        return uuid

    def nvmlDeviceGetIndex(self, handle: str) -> int:
        return {"GPU-a": 2, "GPU-b": 6}[handle]

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:
        return SimpleNamespace(gpu=88)

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> int:
        return 1980 if kind == self.NVML_CLOCK_SM else 0

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[SimpleNamespace]:
        return self.processes


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("processes", [1, 2])
def test_the_own_gpus_and_why_they_are_slow(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, old: bool, processes: int
) -> None:
    driver = Driver(old=old, processes=processes)
    monkeypatch.setitem(sys.modules, "pynvml", driver)  # type: ignore[arg-type]
    folder = make_run()
    with opened(folder) as writer:
        found = MachineRecorder(writer, ["GPU-b", "GPU-a"])
        found.stop()
    assert driver.seen == ["GPU-b", "GPU-a"]
    gpus = rows(folder / "machine.jsonl")[-1]["gpu"]
    known = {"use": 0.88, "memory": None, "power": None, "temperature": None, "clock": 1980.0}
    assert gpus == [
        {"index": 6, **known, "throttled": ["sw_power_cap", "hw_thermal_slowdown"]},
        {"index": 2, **known, "throttled": []},
    ]
    assert found.shared is (processes > 1)
    assert found.record()["gpu_throttled"] == 1.0
    assert slowed_by(found.record() | {"load": 0, "waited": 0}) == THROTTLED


def test_what_counts_as_overloaded_and_as_throttled() -> None:
    fair = {"processors": 4, "load": 4.0, "peak": 6.0, "waited": 0.02, "throttled": 0, "gpu_throttled": 0.02}
    assert slowed_by(fair) == ""
    for key, value in (("load", 5.5), ("waited", 0.3)):
        assert slowed_by(fair | {key: value, "throttled": 1}) == BUSY
    for key, value in (("throttled", 2), ("gpu_throttled", 0.2)):
        assert slowed_by(fair | {key: value}) == THROTTLED
    assert slowed_by(None) == slowed_by({"processors": "4", "load": [9]}) == ""


def test_samples_lie_where_the_metrics_lie(make_run: MakeRun) -> None:
    folder = make_run()
    with opened(folder) as writer:
        for step in (10, 20, 40):
            writer.metrics(step, step / 10, step * 2.0, {"train/loss": 1.0})
    (folder / "machine.jsonl").write_bytes(b"".join(sample(step, cpu=50.0).line() for step in (0, 5, 30, 60)))
    step, values, epoch, time = open_run(folder).axes("machine/cpu")
    assert step.tolist() == [0, 5, 30, 60]
    assert values.tolist() == [0.5] * 4
    assert epoch.tolist() == pytest.approx([0, 0.5, 3, 6])
    assert time.tolist() == pytest.approx([0, 10, 60, 120])
    assert open_run(folder).metric_names() == ["train/loss"]
