"""benchmarks/gpu.sh: rows at once, nothing measured twice, what is left; and all on a replica of a bare machine."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lsc_engine import bench
from lsc_engine.bench import Check, Result, Table
from lsc_engine.config.derived import derive
from lsc_engine.studies.plan import plan_study

pytestmark = pytest.mark.slow

gpu, throughput = bench.load("gpu"), bench.load("throughput")
ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.sh"
# What the machine of the replica has besides its seven wheels: torch, torchvision, timm and what they need.
LIGHT = ("numpy", "pillow", "pyyaml", "safetensors", "huggingface_hub", "filelock", "sympy", "networkx", "jinja2",
         "fsspec", "setuptools")  # fmt: skip
WHEELS = ("pydantic", "pydantic_core", "annotated_types", "typing_inspection", "typing_extensions", "tomli", "tomli_w")
LACKING = ("pydantic", "psutil", "typer", "rich", "scipy", "sklearn", "matplotlib", "pynvml", "textual")


class Calls:
    """Jobs of a part that stand for real ones, and what happened to them."""

    def __init__(self, out: Path) -> None:
        self.out, self.ran = out, list[str]()
        self.fail = self.stop = True

    def jobs(self, part: int, rehearse: bool = False) -> list[Any]:
        made = [("two rows", 1, self._two), ("broken", 1, self._broken), ("whole", 1, self._whole)]
        made += [("hangs", 1, self._hangs), ("long", 10**6, self._two)]
        return [gpu.Job(name, seconds, self._noted(name, run)) for name, seconds, run in made]

    def _noted(self, name: str, run: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def call(here: Any) -> Any:
            self.ran.append(name)
            return run(here)

        return call

    def lines(self) -> list[dict[str, Any]]:
        lines = (self.out / "gpu.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]

    def _two(self, here: Any) -> None:
        here.report({"what": "a", "rate": 1.5})
        assert self.lines()[-1]["row"] == {"what": "a", "rate": 1.5}
        here.report({"what": "b", "rate": 2})

    def _broken(self, here: Any) -> None:
        here.report({"what": "c", "rate": 3})
        if self.fail:
            raise RuntimeError("no kernel image")

    def _whole(self, here: Any) -> Result:
        here.report({"classes": 7})
        table = Table("Classes", [{"classes": 7, "time": "1 ms"}])
        return Result("head", [Check("time", "1 ms", "2 ms", True)], [table], ["A note."])

    def _hangs(self, here: Any) -> None:
        here.report({"what": "d", "rate": 4})
        if self.stop:
            raise KeyboardInterrupt


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    made = Calls(tmp_path / "out")
    monkeypatch.setattr(gpu, "jobs", made.jobs)
    monkeypatch.setattr(gpu, "ROOT", tmp_path / "root")
    (tmp_path / "root" / "benchmarks" / "results").mkdir(parents=True)
    return made


def call(calls: Calls, *, retry: bool = False, seconds: float = 100.0) -> int:
    how = {"rehearse": False, "retry": retry, "command": "benchmarks/gpu.sh --part 2"}
    return int(gpu.run_part(2, calls.out, torch.device("cpu"), seconds=seconds, **how))


def test_what_was_measured_stays_and_is_not_measured_again(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        call(calls)
    assert calls.ran == ["two rows", "broken", "whole", "hangs"]
    page = (calls.out / "gpu-2.md").read_text()
    assert page == (gpu.ROOT / "benchmarks" / "results" / "gpu-2.md").read_text()
    assert "| a | 1.5 |\n| b | 2 |" in page
    assert "broken: failed: RuntimeError: no kernel image" in page
    assert "| time | 1 ms | 2 ms | reached |" in page
    assert "| d | 4 |" in page
    # A process that was killed while it wrote.
    with (calls.out / "gpu.jsonl").open("a") as file:
        file.write('{"part": 2, "jo')

    # The job that hung is tried once more, then no longer.
    with pytest.raises(KeyboardInterrupt):
        call(calls)
    assert calls.ran[4:] == ["hangs"]
    capsys.readouterr()
    assert call(calls) == gpu.LEFT
    assert calls.ran[5:] == []
    printed = capsys.readouterr().out
    assert "left: long (up to 1000000 s)" in printed
    assert "failed: broken, hangs" in printed

    calls.fail = calls.stop = False
    assert call(calls, retry=True, seconds=2 * 10**6) == 0
    assert calls.ran[5:] == ["broken", "hangs", "long"]
    page = (calls.out / "gpu-2.md").read_text()
    assert "failed" not in page
    # Rows of the tries that failed are not shown beside those of the last one.
    assert page.count("| c | 3 |") == page.count("| d | 4 |") == 1


def test_no_time_no_job(calls: Calls) -> None:
    assert call(calls, seconds=0) == gpu.LEFT
    assert calls.ran == []


@pytest.mark.parametrize("part", gpu.TITLES)
def test_jobs_have_names_of_their_own_and_fit_into_a_part(part: int) -> None:
    names = [job.name for job in gpu.jobs(part)]
    assert len(names) == len(set(names))
    assert names == [job.name for job in gpu.jobs(part, rehearse=True)] or part == 4
    assert max(job.seconds for job in gpu.jobs(part)) < (230 if part == 1 else 530)


def test_a_class_layer_costs_six_operations_a_weight() -> None:
    """Forward, gradient of the weights, gradient of the embedding: two operations a weight each."""
    found = []
    for variant in ("V21-384", "CE"):
        sets = ("data.classes=70", 'data.labels="class"', "train.batch_size=8", 'model.name="encoder"',
                "model.width=0.1", 'optimizer.warmup="0 steps"', "model.dim=384")  # fmt: skip
        (plan,) = plan_study("vit-s-spectrum", variants=(variant,), seeds=(0,), sets=sets).runs
        found.append(throughput.flops_an_image(plan.config, 3, 32, derive(plan.config).n, 70))
    assert found[1] - found[0] == 6 * 384 * 70


def test_the_script_says_what_it_lacks(tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHON": shutil.which("python3") or "python3", "CUDA_VISIBLE_DEVICES": ""}
        return subprocess.run([SCRIPT, *words], capture_output=True, text=True, timeout=120, env=env)

    assert (done := run("--part", "1")).returncode == 2
    assert "--out DIR is needed" in done.stderr
    assert (done := run("--fast")).returncode == 2
    assert "benchmarks/gpu.sh --out DIR [--part 1-4]" in done.stderr
    env = {**os.environ, "PYTHON": os.sys.executable, "CUDA_VISIBLE_DEVICES": ""}  # type: ignore[attr-defined]
    words = [SCRIPT, "--out", tmp_path / "out"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 2
    assert "finds no CUDA GPU here" in done.stdout
    assert not (tmp_path / "out").exists()


def test_a_part_that_hangs_is_ended_from_outside(tmp_path: Path) -> None:
    """A process that never looks at its time."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "a row"\nexec sleep 1000\n')
    python.chmod(0o755)
    env = {**os.environ, "PYTHON": str(python), "GPU_PART_SECONDS": "11"}
    words = [SCRIPT, "--out", tmp_path / "out", "--part", "1"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, env=env)
    assert done.returncode == gpu.LEFT
    assert done.stdout == "a row\nsomething is left: run the same command again\n"


def python312() -> str | None:
    """A Python 3.12 that starts: on the path, or one of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = [shutil.which("python3.12"), *map(str, sorted(pyenv.glob("versions/3.12.*/bin/python3.12")))]
    for python in filter(None, found):
        done = subprocess.run([python, "-c", "import venv, ensurepip"], capture_output=True, timeout=60)
        if done.returncode == 0:
            return python
    return None


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONWARNINGS", "PYTHONPATH")}


def pip(python: Path, *words: str) -> None:
    """Run pip; the test is skipped where the registry does not give the packages."""
    command = [python, "-m", "pip", words[0], "--quiet", "--no-cache-dir", "--disable-pip-version-check", *words[1:]]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=400, env=clean())
    except subprocess.TimeoutExpired:
        pytest.skip(f"pip {words[0]} takes longer than 400 s here")
    if done.returncode:
        pytest.skip(f"pip {words[0]}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")


@pytest.fixture
def replica(tmp_path: Path) -> Path:
    """The Python of an environment with torch 2.11, torchvision and timm, and nothing that this project needs besides.

    The libraries of CUDA, 3 GB, are those of this environment where it has them: the CPU computes with none of them.
    """
    base = python312()
    if base is None:
        pytest.skip("there is no python3.12 here")
    if shutil.disk_usage(tmp_path).free < 10 * 2**30:
        pytest.skip("less than 10 GB are free")
    subprocess.run([base, "-m", "venv", tmp_path / "replica"], check=True, timeout=200, env=clean())
    python = tmp_path / "replica" / "bin" / "python"
    (site,) = (tmp_path / "replica").glob("lib/python*/site-packages")
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    libraries = Path(spec.origin).parents[1] / "nvidia"
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    if libraries.is_dir():
        shutil.copytree(libraries, site / "nvidia", copy_function=os.symlink)
        pip(python, "install", "--no-deps", "torch==2.11.*", "torchvision==0.26.*", "timm", "nvidia-curand")
        pip(python, "install", *LIGHT)
    loads = [python, "-c", "import torch, torchvision, timm"]
    if subprocess.run(loads, capture_output=True, timeout=200, env=clean()).returncode:
        pip(python, "install", "torch==2.11.*", "torchvision==0.26.*", "timm")
    wheels = str(tmp_path / "wheels")
    pip(python, "download", "--no-deps", "--only-binary=:all:", *constraints, "--dest", wheels, *WHEELS)
    return python


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_bare_machine_measures_everything(replica: Path, tmp_path: Path) -> None:
    """Every row's code but the kernels, within the time limits that the script keeps for its parts."""
    out, environment = (
        tmp_path / "out",
        {**clean(), "PYTHON": str(replica), "PYTHONPYCACHEPREFIX": str(tmp_path / "pyc")},
    )
    code = f"import importlib.util as u; print([n for n in {LACKING!r} if u.find_spec(n)])"
    found = subprocess.run([replica, "-c", code], capture_output=True, text=True, timeout=100, env=clean())
    assert found.stdout.strip() == "[]", found.stderr
    words = [SCRIPT, "--out", out, "--wheels", tmp_path / "wheels", "--rehearse"]

    def run(*more: str) -> str:
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        # A machine at ten times its load may not end a part in its time: the next call goes on.
        for _ in range(4):
            done = subprocess.run([*words, *more], timeout=1000, env=environment, **pipes)
            if done.returncode != gpu.LEFT:
                break
        assert done.returncode == 0, done.stdout
        return done.stdout

    try:
        run()
        lines = (out / "gpu.jsonl").read_text().splitlines()
        ended = [line for line in map(json.loads, lines) if "ended" in line]
        ends = {(line["part"], line["job"]): line["ended"] for line in ended}
        assert ends == {(part, job.name): "measured" for part in gpu.TITLES for job in gpu.jobs(part, rehearse=True)}
        for part in gpu.TITLES:
            page = (out / f"gpu-{part}.md").read_text()
            assert f"Measured by `benchmarks/gpu.sh --part {part} --rehearse`." in page
            assert "torch 2.11" in page
            assert str(tmp_path) not in page
        count = len(gpu.jobs(1, rehearse=True))
        assert f"{count} of {count} jobs were measured before" in run("--part", "1")
        assert (out / "gpu.jsonl").read_text().splitlines() == lines
    finally:
        shutil.rmtree(replica.parents[1])
