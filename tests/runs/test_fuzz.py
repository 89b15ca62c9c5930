"""Run folders damaged at random, file by file: every reader answers, or refuses with a sentence; none raises or warns.

LSC_FUZZ_FILES sets how many files are damaged (300 in make test, 3 000 in make slow), LSC_FUZZ_SEED begins elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import re
import shutil
from pathlib import Path

import pytest

from lsc_engine.analysis.compare import compare
from lsc_engine.analysis.saved_views import SavedView, list_views, save_view
from lsc_engine.analysis.seed_curves import over_seeds
from lsc_engine.analysis.verdict import to_json, verdicts
from lsc_engine.common.errors import LscError
from lsc_engine.common.hardware import Gpu, Hardware
from lsc_engine.config.load import load_run_config
from lsc_engine.runs.folder.checkpoints import new_checkpoint, newest_good, verify
from lsc_engine.runs.folder.machine import slowed_by
from lsc_engine.runs.folder.requests import pending
from lsc_engine.runs.folder.writer import RunWriter, create_run
from lsc_engine.runs.metrics.machine import Sample, newest
from lsc_engine.runs.metrics.reader import MetricsTail
from lsc_engine.runs.read.logs import LogTail
from lsc_engine.runs.read.run import Run, list_runs, open_run
from lsc_engine.runs.settings import settings_of
from lsc_engine.studies.plan import plan_study
from tests.runs.conftest import read_metrics

pytestmark = pytest.mark.slow

FILES = int(os.environ.get("LSC_FUZZ_FILES", "300"))
EVIL = "\x1b]0;owned\x07\x1b[2J\r\n\x9b31m\u202e漢\U0001f600\x00".encode()
VALUES = [
    b"0", b"-1", b"1e999", b"-1e308", b"null", b'"x"', b"[]", b"{}", b"9" * 400, b"NaN", b"-Infinity", b"true", b"\xff",
    b"0.5", b"18446744073709551616", b"1e-400", b"9007199254740993", b"[[[[", b'"\\ud800"', b"1_000", b"00", b"+1",
]  # fmt: skip
KINDS = ("finished", "running", "stopped", "queued", "lost", "x", "")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with two runs of a study, one of them resumed, with everything that a run folder may hold."""
    root = tmp_path_factory.mktemp("fuzz") / "runs"
    plans = [p for p in plan_study("demo", name="s", seeds=(0,)).runs if p.config.variant in ("V21-384", "A-384")]
    for plan in plans:
        folder = create_run(root / plan.id, plan.config, {"command": ["lsc-engine"], "parent": {"id": "s/x/seed-0"}})
        for attempt, begin in enumerate((1, 120), 1):
            with RunWriter.open(folder, device="cpu", total_steps=219, echo=False) as writer:
                for step in range(begin, 100 + 60 * attempt):
                    values = {"train/loss": 1 / step if step % 40 else math.nan, "speed": 0.1 * step}
                    if step % 5 == 0:
                        values["train/accuracy"] = step / 1000
                    writer.metrics(step, step / 10, step * 0.5, values)
                writer.message(f"attempt {attempt}")
                writer.finish("stopped" if attempt == 1 else "finished", 143 if attempt == 1 else 0)
        gpus = (Gpu(1, util=50.0, memory=1e9, throttled=("hw_slowdown",)), Gpu(2, power=300.0, clock=1980.0))
        samples = [Sample(1e9 + s, s, 0.5, 0.1, Hardware(gpus, cpu=40.0, memory=3e9)) for s in range(0, 219, 9)]
        (folder / "machine.jsonl").write_bytes(b"".join(sample.line() for sample in samples))
        (folder / "notes.json").write_text(json.dumps({"notes": [{"text": "x", "time": 5.0}], "tags": ["a", "b"]}))
        for step in (110, 219):
            with new_checkpoint(folder, step) as made:
                (made / "model.safetensors").write_bytes(b"w" * 500)
    save_view(root, SavedView("v", [plan.id for plan in plans], levels={"train/loss": [0.5]}))
    return root


def damaged(draw: random.Random, data: bytes) -> bytes:
    """The content with one to three faults."""
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        at, other = sorted(draw.randrange(len(data) + 1) for _ in range(2))
        fault = draw.randrange(12)
        if fault == 0:
            data = data[:at]
        elif fault == 1:
            data = data[at:]
        elif fault == 2:
            data = data[:at] + data[other:]
        elif fault == 3:
            data = (
                data[:at] + draw.choice([EVIL, draw.randbytes(draw.randrange(200)), b"\n", b"\x00" * 4096]) + data[at:]
            )
        elif fault == 4 and data:
            spot = draw.randrange(len(data))
            data = data[:spot] + bytes([data[spot] ^ 1 << draw.randrange(8)]) + data[spot + 1 :]
        elif fault == 5:
            parts = re.split(rb"(-?[0-9][0-9.e+-]*)", data)
            share, value = draw.random(), draw.choice(VALUES)
            data = b"".join(value if i % 2 and draw.random() < share else part for i, part in enumerate(parts))
        elif fault == 6:
            value, chosen = draw.choice(VALUES), draw.randrange(1, 30)
            found = list(re.finditer(rb'(?<=[:=,\[ ])("[^"\n]*"|-?[0-9.e+-]+|true|false|null)', data))
            for match in reversed(draw.sample(found, min(chosen, len(found)))):
                data = data[: match.start()] + value + data[match.end() :]
        elif fault == 7:
            lines = data.split(b"\n")
            draw.shuffle(lines)
            data = b"\n".join(lines)
        elif fault == 8:
            data = (data[:at] + data[at:other] * draw.randrange(2, 40) + data[other:])[: 1 << 19]
        elif fault == 9:
            data = draw.choice([b"", b"{}", b"[]", b"null", b"\xef\xbb\xbf" + data, b"[" * 9000, b'{"a":' * 5000, EVIL])
        elif fault == 10:
            keys = re.findall(rb'"([a-z_/]+)"', data)
            if keys:
                data = data.replace(draw.choice(keys), draw.choice([*keys, b"", EVIL, b"a" * 5000]))
        else:
            data = data.replace(
                draw.choice([b'"', b":", b",", b"{", b"\n", b"="]), draw.choice([b"", b" ", b"\n", b'"'])
            )
    return data


def read_all(run: Run, other: Run) -> None:
    """Everything that viewers and commands ask of a run folder."""
    status = run.status()
    assert status.shown_state.isprintable()
    for text in (status.news, status.message, status.host, status.device, status.owner, run.label, run.loss_kind):
        assert isinstance(text, str)
    assert all(tag.isprintable() for tag in run.tags)
    assert all(isinstance(note.text, str) for note in run.notes)
    assert isinstance(run.source, dict)
    settings_of(run.config)
    run.last(status)
    for name in run.metric_names():
        step, values, epoch, time = run.axes(name)
        assert len(step) == len(values) == len(epoch) == len(time) > 0
        assert bool((step[1:] > step[:-1]).all())
    slowed_by(run.load)
    for name in ("machine/cpu", "machine/load", "machine/gpu_use/1", *run.machine.table.names):
        step, values, epoch, time = run.axes(name)
        assert len(step) == len(values) == len(epoch) == len(time)
        assert bool((step[1:] > step[:-1]).all())
    newest(run.path / "machine.jsonl")
    run.table.attempt_starts()
    for checkpoint in run.checkpoints():
        assert checkpoint.problem or checkpoint.files
        verify(checkpoint)
    newest_good(run.path)
    pending(run.path)
    tail = LogTail(run.log_path)
    tail.skip_to_last(5)
    assert all(isinstance(text, str) for text in tail.chunks())
    list_views(run.root or run.path)
    with contextlib.suppress(LscError):
        load_run_config(run.path / "preset.toml")
    with contextlib.suppress(LscError):
        read_metrics(run.path / "metrics.jsonl")
    with contextlib.suppress(LscError):
        found = compare([run, other])
        json.dumps(to_json(found))
        verdicts(found)
        for axis in ("epoch", "step", "time", "images"):
            over_seeds([run, other], "train/loss", axis)
            over_seeds([run, other], "machine/gpu_power_w", axis)
    assert open_run(run.path).id


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("files", [FILES, pytest.param(3000, marks=pytest.mark.slow)])
def test_damaged_files_never_raise(good: Path, tmp_path: Path, files: int) -> None:
    draw = random.Random(int(os.environ.get("LSC_FUZZ_SEED", "0")) + files)
    root = tmp_path / "runs"
    shutil.copytree(good, root)
    one, other = list_runs([root])
    (view,) = (root / ".views").iterdir()
    names = sorted(p.relative_to(one.path) for p in one.path.rglob("*") if p.is_file() and p.name != "lock")
    paths = [*(one.path / name for name in names), view]
    tail, refused = MetricsTail(one.path / "metrics.jsonl"), 0
    for number in range(files):
        path = draw.choice(paths)
        whole = path.read_bytes()
        content = damaged(draw, whole)
        if path.name == "status.json" and draw.random() < 0.3:
            content = whole.replace(b'"finished"', json.dumps(draw.choice(KINDS)).encode())
        path.write_bytes(content)
        try:
            assert [run.id for run in list_runs([root])] == [one.id, other.id]
            run = Run(one.path, one.id, root)
            read_all(run, other)
            tail.poll()
            refused += run.config_problem is not None or run.status().shown_state == "unreadable"
        except BaseException as error:
            kept = tmp_path / "damaged"
            kept.write_bytes(content)
            raise AssertionError(f"file {number}, {path.name} as in {kept}: {error!r}") from error
        finally:
            path.write_bytes(whole)
    assert refused
