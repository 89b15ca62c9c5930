"""`show --follow --json`: lines of JSON as it happens, of runs that have not begun, and of other tools."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from lsc_engine.runs.folder.writer import RunWriter, create_run
from lsc_engine.studies.plan import plan_study
from tests import processes
from tests.waiting import LIMIT

ROOT = Path(__file__).parents[2]
PRESET = """
data   = { dataset = "digits", labels = "unique", classes = 64 }
model  = { name = "encoder", width = 0.05 }
target = { method = "lsc", system = "V21" }
train  = { duration = "2 epochs", batch_size = 16 }
"""


def queued_run(folder: Path) -> Path:
    """A run that waits for its turn."""
    (folder / "t.toml").write_text(PRESET)
    (run,) = plan_study(folder / "t.toml").runs
    return create_run(folder / "runs" / run.id, run.config, {})


def follow(folder: Path, *words: str) -> subprocess.Popen[str]:
    """The command, its stdout a pipe."""
    return processes.start("show", *words, "--follow", "--json", cwd=folder, stdout=subprocess.PIPE, text=True)


def test_a_queued_run_is_followed_to_its_end(tmp_path: Path) -> None:
    run = queued_run(tmp_path)
    with follow(tmp_path, "default") as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert (first["event"], first["state"], first["attempt"]) == ("state", "queued", 0)
        writer = RunWriter.open(run, device="cpu", total_steps=8, echo=False)
        writer.metrics(4, 1.0, 0.5, {"train/loss": 0.25, "val/loss": float("nan")})
        found: list[dict[str, Any]] = []
        while not any(line["event"] == "metrics" for line in found):
            found.append(json.loads(process.stdout.readline()))
        assert found[-1] == {
            **{"event": "metrics", "step": 4, "attempt": 1, "epoch": 1.0, "time": 0.5},
            **{"train/loss": 0.25, "val/loss": None, "nonfinite": {"val/loss": "nan"}},
        }
        writer.metrics(8, 2.0, 1.0, {"train/loss": 0.125})
        writer.finish("finished", 0)
        rest = [json.loads(line) for line in process.stdout]
        assert process.wait(LIMIT) == 0
    assert [line["step"] for line in rest if line["event"] == "metrics"] == [8]
    assert (rest[-1]["event"], rest[-1]["state"], rest[-1]["exit_code"]) == ("state", "finished", 0)


def test_a_closed_pipe_ends_it_though_nothing_happens(tmp_path: Path) -> None:
    queued_run(tmp_path)
    with follow(tmp_path, "default") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(LIMIT) == -signal.SIGPIPE


def test_a_log_of_another_tool_ends_when_it_no_longer_grows(tmp_path: Path) -> None:
    log = tmp_path / "runs" / "yolo" / "results.csv"
    log.parent.mkdir(parents=True)
    log.write_text("epoch,train_loss,lr\n1,0.5,0.1\n2,0.25,0.1\n")
    os.utime(log, (0, 1.7e9))
    with follow(tmp_path, "yolo") as process:
        assert process.stdout is not None
        lines = [json.loads(line) for line in process.stdout]
        assert process.wait(LIMIT) == 0
    assert [(line["event"], line["step"], line.get("train/loss")) for line in lines] == [
        ("metrics", 1, 0.5),
        ("metrics", 2, 0.25),
        ("state", 2, None),
    ]


def test_without_json_it_is_refused(tmp_path: Path) -> None:
    queued_run(tmp_path)
    done = processes.call("show", "default", "--follow", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--json" in done.stderr
