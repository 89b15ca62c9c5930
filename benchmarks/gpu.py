"""One CUDA machine in four parts of at most nine minutes, as benchmarks/gpu.sh runs them; docs/gpu.md describes them.

A part is a list of jobs. Each row is printed and appended to DIR/gpu.jsonl as soon as it is measured; DIR/gpu-N.md and
benchmarks/results/gpu-N.md are written after every job. A job that has ended is not run again; one that was stopped
twice is given up. With `--rehearse` the jobs run on the CPU with sizes that take seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.util
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from lsc_engine import __version__, bench
from lsc_engine.bench import Result, Table, shown
from lsc_engine.common.errors import LscError
from lsc_engine.common.formatting import grouped
from lsc_engine.common.safe_io import write_whole
from lsc_engine.config.schema import Train
from lsc_engine.runs.folder.process import python_command
from lsc_engine.runs.folder.writer import create_run
from lsc_engine.runs.read.run import open_run
from lsc_engine.studies.plan import plan_study
from lsc_engine.training.job import Job as WorkerJob

from . import throughput
from .measure import demo_images, megabytes, wait
from .throughput import Case

ROOT = Path(__file__).resolve().parent.parent
TITLES = {
    1: "Smoke test: rates of the card, doctor, the demo compiled and not, kill and resume, tests",
    2: "ViT-S/16 at 224 px in bf16: LSC, cross-entropy and timm's loop",
    3: "Encoder, head, vector systems, labels, evaluation",
    4: "Table 10, 300 000 and 1.28 million classes, our loop against a bare one",
}
TINY_VIT = ('model.name="timm:vit_tiny_patch16_224"', "data.image_size=32", "train.batch_size=2")
# Exit codes: a row failed; jobs are left for the next call; the GPU answers no more, so that a new process must go on.
FAILED, LEFT, BROKEN = 1, 3, 75


@dataclass(frozen=True)
class Here:
    """Where a job runs: `report` takes a row; `deadline` on time.monotonic's clock; `before`: the rows of a try that
    was stopped."""

    device: torch.device
    rehearse: bool
    report: Callable[[dict[str, Any]], None]
    deadline: float
    before: list[dict[str, Any]]

    @property
    def left(self) -> float:
        """Seconds until the part must end."""
        return max(1.0, self.deadline - time.monotonic())


class OutOfTime(Exception):
    """The job was stopped at the deadline; the next call goes on."""


@dataclass(frozen=True)
class Job:
    """`run` reports rows, or returns a whole Result; `seconds`: what it takes on an H100 at most, with compiling."""

    name: str
    seconds: int
    run: Callable[[Here], Result | None]


def jobs(part: int, rehearse: bool = False) -> list[Job]:
    """The jobs of a part, the most telling first."""
    return {1: _smoke, 2: _vit, 3: _encoder, 4: _scale}[part](rehearse)


def _smoke(rehearse: bool) -> list[Job]:
    return [
        Job("rates", 15, _rates),
        Job("doctor", 20, _doctor),
        *(Job(f"demo, compile {how}", 40, partial(_demo, how=how)) for how in ("off", "on", "graphs")),
        Job("kill and resume", 60, _kill_and_resume),
        *(Job(f"tests of {file.name}", 40, partial(_cuda_tests, file=file)) for file in _marked_files()),
    ]


def _marked_files() -> list[Path]:
    """Test files with tests marked cuda."""
    return sorted(path for path in (ROOT / "tests").rglob("test_*.py") if "mark.cuda" in path.read_text("utf-8"))


def vit_cases(rehearse: bool) -> dict[Case, int]:
    """ViT-S at 224 px: case -> seconds. A case with an option that this version lacks is left out."""
    size = ("data.image_size=224", 'data.labels="class"', 'optimizer.warmup="0 steps"')

    def case(words: str, variant: str, batch: int, *sets: str, classes: int = 1_000, **more: Any) -> Case:
        name = f"ViT-S, {words}, {grouped(classes)} classes, batch {batch}"
        sets = (*size, f"data.classes={classes}", f"train.batch_size={batch}", *sets, *(TINY_VIT if rehearse else ()))
        return Case(name, "vit-s-spectrum", variant, sets, **more)

    stream = 'train.residual="bf16"'
    found = {
        case("LSC", "V21-384", 512): 60,
        case("CE", "CE", 512): 50,
        case("timm's loop, CE", "CE", 512, timm=True): 50,
        case("LSC, bf16 residual stream", "V21-384", 512, stream): 60,
        case("CE, bf16 residual stream", "CE", 512, stream): 50,
        case("LSC", "V21-384", 256): 50,
        case("timm's loop, CE", "CE", 256, timm=True): 50,
        case("LSC", "V21-384", 512, classes=10_000_000): 40,
        case("LSC, max-autotune", "V21-384", 512, autotune=True): 180,
    }
    return {case: s for case, s in found.items() if stream not in case.sets or "residual" in Train.model_fields}


def _vit(rehearse: bool) -> list[Job]:
    return [_training(case, seconds) for case, seconds in vit_cases(rehearse).items()]


def _encoder(rehearse: bool) -> list[Job]:
    base = ('model.name="encoder"', 'optimizer.warmup="0 steps"')
    tiny = ("model.width=0.05", "data.image_size=8", "train.batch_size=8") if rehearse else ()

    def case(words: str, variant: str, classes: int, how: str, *sets: str, batch: int = 1024, **more: Any) -> Job:
        name = f"{words}, {grouped(classes)} classes, batch {batch}, compile {how}"
        few = min(classes, 2_000) if rehearse else classes
        sets = (*base, f"train.batch_size={batch}", f"data.classes={few}", f'train.compile="{how}"', *sets, *tiny)
        return _training(Case(name, "vit-s-spectrum", variant, sets, **more), 30)

    demo = ("model.width=0.25", "data.image_size=8")
    benches = [("head", 90), ("systems", 30), ("decode", 150), ("evaluation", 60)]
    return [
        case("encoder, LSC", "V21-384", 50_000, "on"),
        case("encoder, LSC", "V21-384", 50_000, "graphs"),
        case("encoder, LSC, drawn from bytes on the device", "V21-384", 50_000, "on", images="bytes"),
        case("encoder, LSC, images made by spectrum", "V21-384", 50_000, "on", images="made"),
        case("encoder, CE", "CE", 50_000, "on"),
        case("encoder, LSC", "V21-384", 10_000_000, "on"),
        case("encoder, CE", "CE", 1_000_000, "on"),
        *(case("encoder of the demo, LSC", "V21-384", 1_797, how, *demo, batch=32) for how in ("on", "graphs", "off")),
        *(Job(name, seconds, partial(_bench, name=name)) for name, seconds in benches),
    ]


def _scale(rehearse: bool) -> list[Job]:
    classes = (1_000, 2_000) if rehearse else (300_000, 1_281_167)
    sets = ('optimizer.warmup="0 steps"', "train.batch_size=1024", *(TINY_VIT if rehearse else ()))
    return [
        Job("memory", 150, partial(_bench, name="memory")),
        *(Job(f"spectrum, {count:,} classes", 75, partial(_spectrum, classes=count)) for count in classes),
        Job("loop", 120, partial(_bench, name="loop")),
        _training(Case("ViT-S at 32 px, LSC, batch 1024", "vit-s-spectrum", "V21-384", sets), 50),
    ]


def _training(case: Case, seconds: int) -> Job:
    def run(here: Here) -> None:
        chosen = case
        if here.rehearse:
            # A compiler for the CPU takes half a minute a case.
            chosen = replace(case, sets=(*case.sets, 'train.compile="off"'))
        here.report(throughput.measure(chosen, here.device, *((0.1, 1) if here.rehearse else ())))

    return Job(case.name, seconds, run)


def _bench(here: Here, name: str) -> Result:
    arguments: dict[str, Any] = {}
    if name == "evaluation" and not here.rehearse:
        arguments["presets"] = ",".join(["spectrum-300k/300k", *([] if demo_images() else ["demo/V21-384"])])
    return bench.run(name, quick=here.rehearse, device=str(here.device), on_row=here.report, **arguments)


def _rates(here: Here) -> None:
    """Bytes a second of a copy on the device, read and written, and FLOP/s of matrix products, on random data."""
    rows = 512 if here.rehearse else 8192
    left = torch.randn(rows, rows, device=here.device)
    large = torch.randn(2**20 if here.rehearse else 2**30, device=here.device)
    other = torch.empty_like(large)
    half = left.bfloat16()
    for what, call, work, unit in (
        ("copy on the device", lambda: other.copy_(large), 2.0 * large.nbytes, "B"),
        (f"bf16 product, {rows} rows", lambda: half @ half, 2.0 * rows**3, "FLOP"),
        (f"float32 product, {rows} rows", lambda: left @ left, 2.0 * rows**3, "FLOP"),
    ):
        for _ in range(3):
            call()
        wait()
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < (0.05 if here.rehearse else 1.0):
            for _ in range(5):
                call()
            wait()
            count += 5
        rate = count * work / (time.perf_counter() - began)
        here.report({"what": what, "rate": f"{rate / 1e12:.3g} T{unit}/s"})


def _doctor(here: Here) -> None:
    from lsc_engine.cli import doctor

    # Folders are the business of nobody who reads the page.
    found = doctor.examine(None, None) | {"data": [], "packed": [], "disk": []}
    for line in doctor.lines(found):
        here.report({"lsc-engine doctor": line})


def _demo(here: Here, how: str) -> None:
    steps = 30 if here.rehearse else 1400
    sets = [f'train.duration="{steps} steps"', f'eval.every="{steps} steps"', f'train.compile="{how}"', *demo_images()]
    if here.rehearse:
        sets += ['train.compile="off"', "eval.images=100", "model.width=0.05"]
    with throughput.trainer("demo", "V21-384", tuple(sets), here.device) as trainer:
        wait()
        began = time.perf_counter()
        state = trainer.train()
        took, source = time.perf_counter() - began, trainer.writer.source()
        run = open_run(trainer.run.folder)
        speed = run.history("speed/images_per_second")[1]
        here.report(
            {
                "demo/V21-384": how, "ended": state, "steps": steps, "compiled": source.get("compiled"),
                "graphs": source.get("graphs"), "images/s": float(sorted(speed)[len(speed) // 2]),
                "training": f"{trainer.clock.seconds:.1f} s", "with compiling and evaluation": f"{took:.1f} s",
                **{name: run.last()[name] for name in ("train/loss", "train/accuracy")},
                "images": trainer.config.data.dataset,
            }
        )  # fmt: skip


def _kill_and_resume(here: Here) -> None:
    steps, sets = (60, ("model.width=0.05", "eval.images=50")) if here.rehearse else (600, ())
    with tempfile.TemporaryDirectory() as scratch:
        found = kill_and_resume(Path(scratch), str(here.device), steps, sets, here.left)
    here.report(found)
    if found["weights that differ"]:
        raise LscError("the resumed run ended with other weights than the straight one")


def kill_and_resume(root: Path, device: str, steps: int, sets: tuple[str, ...] = (), seconds: float = 300.0
                    ) -> dict[str, Any]:  # fmt: skip
    """Train one run straight, and the same killed after its first checkpoint and resumed, under train.deterministic,
    each in processes of its own; how many of the final weights differ. LscError if a run fails."""
    from safetensors.torch import load_file

    every = max(1, steps // 10)
    sets = (
        f'train.duration="{steps} steps"', f'eval.every="{steps} steps"', f'checkpoint.every="{every} steps"',
        "checkpoint.keep=20", "train.deterministic=true", *demo_images(), *sets,
    )  # fmt: skip
    (plan,) = plan_study("demo", name="kill", variants=("V21-384",), seeds=(0,), sets=sets).runs
    deadline, killed_at, folders = time.monotonic() + seconds, 0, []
    manifests = "checkpoints/step-*/manifest.json"
    for name in ("straight", "killed"):
        runs = root / name
        folder = create_run(runs / plan.id, plan.config, {"command": ["benchmarks/gpu.sh"]})
        folders.append(folder)
        words = ["-m", "lsc_engine.training.run_worker", WorkerJob(folder, runs, device).to_json()]
        if name == "killed":
            with subprocess.Popen(python_command(*words), cwd=root) as process:
                while not list(folder.glob(manifests)) and process.poll() is None:
                    if time.monotonic() > deadline:
                        process.kill()
                        raise LscError("no checkpoint came in time")
                    time.sleep(0.02)
                process.kill()
            killed_at = max(int(path.parent.name.split("-")[1]) for path in folder.glob(manifests))
            if killed_at >= steps:
                raise LscError("the run ended before it was killed")
        done = subprocess.run(python_command(*words), cwd=root, timeout=max(1.0, deadline - time.monotonic()))
        if done.returncode:
            raise LscError(f"the {name} run ended with {done.returncode}: {open_run(folder).status().message}")
    one, other = (load_file(folder / "checkpoints" / f"step-{steps:08}" / "model.safetensors") for folder in folders)
    return {
        "steps": steps, "killed after step": killed_at, "resumed": "resumed at step" in _log(folders[1]),
        "weights": sum(tensor.numel() for tensor in one.values()),
        "weights that differ": sum(int((one[name] != other[name]).sum()) for name in one),
        "attempts": open_run(folders[1]).status().attempt,
    }  # fmt: skip


def _log(folder: Path) -> str:
    return (folder / "log.txt").read_text(encoding="utf-8")


def _cuda_tests(here: Here, file: Path) -> None:
    """One row per test of `file` marked cuda, as it ends; they are skipped where there is no GPU."""
    if importlib.util.find_spec("pytest") is None:
        here.report({"test": file.name, "result": "not run: pytest is not installed"})
        return
    # A run that is killed is a job of its own. Warnings of another torch fail no test here, nor do settings of
    # pyproject.toml whose plugin is missing; kernels are compiled in the process that the filter reaches.
    words = ["-m", "cuda", "-k", "not killed", "-vv", "--color=no", "--tb=short", "-p", "no:cacheprovider"]
    words += ["-W", "default", str(file)]
    for row in here.before:
        if row["result"] == "passed":
            here.report(row)
            words.append(f"--deselect={file.relative_to(ROOT)}::{row['test']}")
    printed = list[str]()
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    env = {**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    with subprocess.Popen(python_command("-m", "pytest", *words), cwd=ROOT, env=env, **pipes) as process:
        timer = threading.Timer(here.left, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                printed.append(line)
                if found := re.match(r"\S+::(.+?) (PASSED|FAILED|ERROR|SKIPPED)", line):
                    here.report({"test": found[1], "result": found[2].lower()})
        finally:
            timer.cancel()
            process.kill()
    if time.monotonic() >= here.deadline:
        raise OutOfTime
    # 5: no test is marked, as where -k leaves none.
    if process.returncode not in (0, 5):
        print("".join(printed[-100:]), flush=True)
        last = printed[-1].strip() if printed else ""
        raise LscError(f"pytest ended with {process.returncode}: {last}")


def _spectrum(here: Here, classes: int) -> None:
    """200 steps of the encoder on images made from their index, each its own class, and an evaluation."""
    steps, tiny = (4, ("train.batch_size=8", "model.width=0.05", "eval.images=16")) if here.rehearse else (200, ())
    sets = (
        f"data.classes={classes}", 'model.dim="min"', "model.width=1.0", "train.batch_size=1024", "eval.images=10240",
        f'train.duration="{steps} steps"', f'eval.every="{steps} steps"', *tiny,
    )  # fmt: skip
    cuda = here.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    with throughput.trainer("spectrum-300k", "300k", sets, here.device) as trainer:
        state = trainer.train()
        wait()
        began = time.perf_counter()
        values = trainer.evaluator.evaluate(trainer.step) or {}
        wait()
        evaluation, speed = time.perf_counter() - began, open_run(trainer.run.folder).history("speed/images_per_second")
        here.report(
            {
                "classes": classes, "n": trainer.run.derived.n, "ended": state, "steps": trainer.step,
                "images/s": float(sorted(speed[1])[len(speed[1]) // 2]),
                "evaluation": f"{evaluation:.2f} s", "images of it": trainer.run.derived.eval_images,
                "train/accuracy": values.get("train/accuracy"),
                "memory": megabytes(torch.cuda.max_memory_allocated() if cuda else None),
            }
        )  # fmt: skip


class Record:
    """DIR/gpu.jsonl: what was measured, by any call. Rows of a job count from its last start."""

    def __init__(self, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self._file = out / "gpu.jsonl"
        self.lines: list[dict[str, Any]] = []
        text = self._file.read_text(encoding="utf-8") if self._file.exists() else ""
        for line in text.splitlines():
            # A call that was killed may have left a torn line.
            with contextlib.suppress(json.JSONDecodeError):
                self.lines.append(json.loads(line))
        if text and not text.endswith("\n"):
            self._append("\n")

    def add(self, part: int, job: str, **values: Any) -> None:
        """Append one line and make sure that it is on the disk."""
        line = {"part": part, "job": job, "time": datetime.now(UTC).isoformat(timespec="seconds"), **values}
        self.lines.append(line)
        self._append(json.dumps(line, default=str) + "\n")

    def _append(self, text: str) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def of(self, part: int, job: str) -> list[dict[str, Any]]:
        """The lines of a job, from its last start on."""
        tries = self._tries(part, job)
        return tries[-1] if tries else []

    def _tries(self, part: int, job: str) -> list[list[dict[str, Any]]]:
        tries: list[list[dict[str, Any]]] = []
        for line in self.lines:
            if (line["part"], line["job"]) == (part, job):
                if "started" in line:
                    tries.append([])
                tries[-1].append(line)
        return tries

    def ended(self, part: int, job: str) -> str | None:
        """How a job ended: "measured", or why not; None if it is to be run."""
        tries = self._tries(part, job)
        if tries and "ended" in tries[-1][-1]:
            return str(tries[-1][-1]["ended"])
        # A try that was stopped after no more rows than the one before will be stopped again.
        return "given up: stopped twice" if len(tries) > 1 and len(tries[-1]) <= len(tries[-2]) else None


def page(record: Record, part: int, chosen: list[Job], command: str) -> str:
    """The Markdown page of a part: rows of equal keys in one table, what failed, card, versions and dates."""
    parts, where = [f"# gpu, part {part}", f"{TITLES[part]}."], dict[str, None]()
    rows: list[dict[str, Any]] = []
    for job in chosen:
        lines = record.of(part, job.name)
        if lines:
            where[f"{lines[0]['time'][:10]}: {lines[0]['started']}."] = None
        ended = record.ended(part, job.name)
        if ended != "measured":
            parts += [_table(rows), f"{job.name}: {ended or 'not measured yet'}."]
            rows = []
        result = lines[-1].get("result") if lines else None
        found = [line["row"] for line in lines if "row" in line]
        if result is not None:
            tables = [Table("", result["checks"]), *(Table(t["title"], t["rows"]) for t in result["tables"])]
            parts += [_table(rows), f"## {job.name}", *(text for t in tables for text in (t.title, t.markdown()))]
            parts += result["notes"]
            rows = []
        for row in found if result is None else ():
            if rows and list(row) != list(rows[0]):
                parts.append(_table(rows))
                rows = []
            rows.append(row)
    parts.append(_table(rows))
    if part == 2:
        parts.append(throughput.MFU)
    return "\n\n".join([*filter(None, parts), f"Measured by `{command}`.", *where]) + "\n"


def _table(rows: list[dict[str, Any]]) -> str:
    return Table("", rows).markdown()


def machine(device: torch.device) -> str:
    """The card and the versions of what computes on it."""
    facts = {name: _version(name) for name in ("torch", "triton", "timm")}
    facts = {"Python": platform.python_version(), **facts, "lsc": __version__}
    words = [f"{name} {version}" for name, version in facts.items()]
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        words = [
            f"{card.name}, {card.total_memory / 2**30:.0f} GiB, {card.multi_processor_count} multiprocessors, "
            f"capability {card.major}.{card.minor}", f"CUDA {torch.version.cuda}",
            f"cuDNN {torch.backends.cudnn.version()}", *words,
        ]  # fmt: skip
    return ", ".join([*([] if device.type == "cuda" else [bench.machine()["cpu"]]), *words])


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def run_part(
    part: int, out: Path, device: torch.device, *, rehearse: bool, seconds: float, retry: bool, command: str
) -> int:
    """Run what is left of a part and fits into `seconds`: 0, or FAILED, LEFT or BROKEN."""
    record, chosen, deadline = Record(out), jobs(part, rehearse), time.monotonic() + seconds
    folders = {out.resolve(): None, **({} if rehearse else {ROOT / "benchmarks" / "results": None})}
    print(f"part {part}: {TITLES[part]}\n{machine(device)}", flush=True)
    skipped = 0
    for job in chosen:
        ended = record.ended(part, job.name)
        if ended == "measured" or (ended is not None and not retry):
            skipped += 1
            continue
        if job.seconds > deadline - time.monotonic() and not rehearse:
            continue
        try:
            _measure(job, record, part, device, rehearse, deadline)
        finally:
            # Also after a Ctrl-C, which is how a job that hangs is stopped.
            for folder in folders:
                write_whole(folder / f"gpu-{part}.md", page(record, part, chosen, command))
        gc.collect()
        torch.compiler.reset()
        if device.type == "cuda":
            try:
                torch.cuda.synchronize()
                torch.cuda.empty_cache()
            except RuntimeError as error:
                print(f"the GPU answers no more: {error}", flush=True)
                return BROKEN
    if skipped:
        print(f"{skipped} of {len(chosen)} jobs were measured before", flush=True)
    left = [job for job in chosen if record.ended(part, job.name) is None]
    failed = [job.name for job in chosen if record.ended(part, job.name) not in (None, "measured")]
    for job in left:
        print(f"left: {job.name} (up to {job.seconds} s)", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}; --retry runs them again", flush=True)
    print(f"part {part}: {len(chosen) - len(left) - len(failed)} of {len(chosen)} jobs measured", flush=True)
    return LEFT if left else FAILED if failed else 0


def _measure(job: Job, record: Record, part: int, device: torch.device, rehearse: bool, deadline: float) -> None:
    """Run a job and record how it ended; a failure ends no part."""

    def report(row: dict[str, Any]) -> None:
        record.add(part, job.name, row=row)
        print(f"  {job.name}: " + ", ".join(f"{key} {shown(value)}" for key, value in row.items()), flush=True)

    before = [line["row"] for line in record.of(part, job.name) if "row" in line]
    record.add(part, job.name, started=machine(device))
    began, ended, result = time.monotonic(), "measured", None
    try:
        found = job.run(Here(device, rehearse, report, deadline, before))
        if found is not None:
            document = found.document()
            result = {key: document[key] for key in ("checks", "tables", "notes")}
            for check in found.checks:
                print(f"  {job.name}: {check.what}: {check.figure} (bar: {check.bar}): {check.verdict}", flush=True)
    except OutOfTime:
        print(f"  {job.name}: stopped; the next call goes on", flush=True)
        return
    except torch.OutOfMemoryError as error:
        ended = f"failed: does not fit: {str(error).splitlines()[0]}"
    except Exception as error:
        traceback.print_exc()
        ended = f"failed: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    if ended != "measured":
        print(f"  {job.name}: {ended}", flush=True)
    values = {"seconds": time.monotonic() - began, **({} if result is None else {"result": result})}
    record.add(part, job.name, ended=ended, **values)


def main() -> int:
    """The command line of one part."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--part", type=int, choices=TITLES, required=True)
    parser.add_argument("--until", type=float, help="seconds since 1970 by which the last job must have ended")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--retry", action="store_true", help="run again what failed or was given up")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes on the CPU: shows that everything works")
    words = parser.parse_args()
    device = torch.device("cpu" if words.rehearse else words.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print(f"torch {torch.__version__} finds no CUDA GPU here; --rehearse runs everything on the CPU", flush=True)
        return 2
    if device.type == "cuda":
        device = torch.device("cuda", device.index or 0)
        torch.cuda.set_device(device)
    command = shlex.join(["benchmarks/gpu.sh", "--part", str(words.part), *(["--rehearse"] if words.rehearse else [])])
    how = {
        "rehearse": words.rehearse,
        "seconds": (words.until or time.time() + 530) - time.time(),
        "retry": words.retry,
        "command": command,
    }
    return run_part(words.part, words.out, device, **how)


if __name__ == "__main__":
    sys.exit(main())
