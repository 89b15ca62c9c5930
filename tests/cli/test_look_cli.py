"""list, show, compare, log, stop, note, tag and delete, as a user calls them: real processes, real folders."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import pty
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lsc_engine.runs.folder.requests import request
from lsc_engine.runs.folder.status import read_status, write_status
from lsc_engine.runs.folder.writer import RunWriter, create_run
from lsc_engine.runs.read.embeddings import Angles, Points, write_snapshot
from lsc_engine.runs.read.run import open_run
from lsc_engine.studies.detach import detach
from tests import processes
from tests.waiting import wait_until

TOML = """title = "t"
[run]
label = "{label}"
[data]
dataset = "digits"
[model]
dim = {dim}
[target]
method = "lsc"
[compare]
baseline = "a"
levels = {{ "train/accuracy" = [0.5] }}
"""

WRITER = """
import sys, time
from lsc_engine.runs.folder.writer import RunWriter
w = RunWriter.open(sys.argv[1], device="cpu", total_steps=100)
w.status(state="running")
w.message("first line")
step = 0
while "stop" not in w.requests():
    step += 1
    w.heartbeat(step)
    time.sleep(0.01)
w.message("last line")
w.finish("stopped", 143, "asked to stop")
"""


class Settings:
    """Settings of a run."""

    def __init__(self, variant: str, dim: int, label: str) -> None:
        self.study, self.variant, self.seed, self._text = "g/s", variant, 0, TOML.format(dim=dim, label=label)

    def to_toml(self) -> str:
        return self._text


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A runs folder with two finished runs and a queued one."""
    return make_runs(tmp_path)


def make_runs(place: Path) -> Path:
    """A runs folder in `place`."""
    runs = place / "runs"
    for variant, dim in (("a", 10), ("b", 12), ("queued", 3)):
        folder = create_run(
            runs / "g/s" / variant / "seed-0", Settings(variant, dim, variant.upper()), {"command": "x"}
        )
        if variant == "queued":
            continue
        with RunWriter.open(folder, device="cpu", total_steps=100, echo=False) as writer:
            for step in range(0, 101, 10):
                done = min(step * dim / 1000, 1.0)
                writer.metrics(step, step / 10, step / 2, {"train/loss": 1.0 - 0.9 * done, "train/accuracy": done})
            writer.message(f"hello from {variant}")
            writer.finish("finished", 0, "done")
    return runs


def lsc(
    root: Path, *words: str, env: dict[str, str] | None = None, before: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run the command line with this runs folder."""
    env = {"LSC_RUNS": str(root), **(env or {})}
    if not before:
        return processes.call(*words, env=env)
    command, env = [*before, sys.executable, "-m", "lsc_engine", *words], os.environ | env
    return subprocess.run(command, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL)


def test_list(root: Path) -> None:
    found = lsc(root, "list", "--json")
    assert (found.returncode, found.stderr) == (0, "")
    runs = json.loads(found.stdout)
    assert [run["id"] for run in runs] == ["g/s/a/seed-0", "g/s/b/seed-0", "g/s/queued/seed-0"]
    required = {
        "id", "study", "variant", "seed", "state", "step", "total_steps", "metrics", "host", "device", "owner",
        "tags", "started", "seconds", "short",
    }  # fmt: skip
    assert all(required <= set(run) for run in runs)
    assert (runs[0]["state"], runs[0]["step"], runs[0]["total_steps"]) == ("finished", 100, 100)
    assert runs[0]["metrics"] == {"train/loss": pytest.approx(0.1), "train/accuracy": 1.0}
    assert (runs[2]["state"], runs[2]["total_steps"], runs[2]["metrics"]) == ("queued", None, {})
    request(root / "g/s/queued/seed-0", "hold")
    assert lsc(root, "list", "queued").stdout.rstrip().endswith("held")
    text = lsc(root, "list", "finished")
    assert "g/s/a/seed-0" in text.stdout
    assert "queued" not in text.stdout
    assert "\x1b" not in text.stdout
    empty = lsc(root / "none", "list")
    assert (empty.returncode, empty.stdout) == (0, "")
    assert "is not there" in empty.stderr
    twice = lsc(root, "list", "--json", "--runs-dir", str(root), "--runs-dir", f"{root}/../runs")
    assert [run["id"] for run in json.loads(twice.stdout)] == [run["id"] for run in runs]
    typo = lsc(root, "list", "--runs-dir", str(root), "--runs-dir", str(root / "typo"))
    assert (typo.returncode, typo.stdout) == (2, "")
    assert f"--runs-dir: {root / 'typo'} is not there" in typo.stderr


def test_show(root: Path) -> None:
    shown = json.loads(lsc(root, "show", "g/s/a/seed-0", "--json").stdout)
    assert shown["preset"]["model"] == {"dim": 10}
    assert shown["source"]["command"] == "x"
    assert shown["history"]["train/accuracy"][1] == [10, 0.1]
    assert len(shown["history"]["train/loss"]) == 11
    text = lsc(root, "show", shown["short"], "--plot", env={"COLUMNS": "80", "PYTHONIOENCODING": "utf-8"})
    assert text.returncode == 0
    assert "train/loss" in text.stdout
    assert any("⠀" < c <= "⣿" for c in text.stdout)
    plain = lsc(root, "show", "a/seed-0", "--plot", env={"PYTHONIOENCODING": "ascii:replace"})
    assert plain.returncode == 0
    assert plain.stdout.isascii()
    missing = lsc(root, "show", "g/s/a/seed-1")
    assert missing.returncode == 2
    assert "the nearest of 3 runs: g/s/a/seed-0, g/s/b/seed-0, " in missing.stderr
    absent = lsc(root, "show", "a/seed-0", "--metric", "nope")
    assert (absent.returncode, absent.stdout) == (2, "")
    assert "has no metric 'nope'" in absent.stderr


def test_show_draws_the_last_embeddings(root: Path) -> None:
    folder = root / "g/s/a/seed-0"
    z = np.array([[1.0, 0.1], [0.1, 1.0], [-1.0, 0.0]])
    shot = Points(7, 3.5, 3, 90.0, True, None, z, np.arange(3), np.arange(3), np.arange(3), z)
    write_snapshot(folder, shot)
    drawn = lsc(root, "show", "a/seed-0", "--plot", env={"COLUMNS": "60", "PYTHONIOENCODING": "utf-8"}).stdout
    picture = drawn.partition("embeddings plane, epoch 3.5")[2].splitlines()[1:]
    places = {c: next((r, line.index(c)) for r, line in enumerate(picture) if c in line) for c in "012"}
    assert places["1"][0] < places["0"][0]
    assert places["2"][1] < places["1"][1] < places["0"][1]
    high = Angles(9, 4.5, 3, 60.0, 8, np.eye(180, dtype=np.int64)[3], np.eye(180, dtype=np.int64)[50], 1.0, 0.0)
    write_snapshot(folder, high)
    plain = lsc(root, "show", "a/seed-0", "--plot", env={"PYTHONIOENCODING": "ascii:replace"}).stdout
    assert "embeddings angles, epoch 4.5" in plain
    assert "30.0 half" in plain
    assert "?" not in plain.partition("embeddings angles")[2]
    (folder / "embeddings/step-00000010.safetensors").write_bytes(b"no")
    damaged = lsc(root, "show", "a/seed-0", "--plot")
    assert damaged.returncode == 0
    assert "is not a snapshot of embeddings" in damaged.stderr


def test_compare(root: Path) -> None:
    found = json.loads(lsc(root, "compare", "a/seed-0", "b/seed-0", "--json").stdout)
    assert found["settings"] == {"model.dim": {"g/s/a": 10, "g/s/b": 12}}
    assert found["rows"][0]["metrics"]["train/accuracy"] == {"mean": 1.0, "std": None, "seeds": 1}
    # Both reach the level between the same two evaluations.
    faster = found["rows"][1]["levels"][0]["faster"]["steps"]
    assert (faster["ratio"], faster["note"]) == (None, "not resolved")
    text = lsc(root, "compare", "s", "--level", "train/accuracy=0.95")
    assert text.returncode == 0
    for part in ("*a", "B", "model.dim", "×1.2", "baseline", "train/accuracy 0.95"):
        assert part in text.stdout
    assert "ran on" not in text.stdout
    with RunWriter.open(root / "g/s/queued/seed-0", device="cpu", total_steps=100, echo=False) as writer:
        writer.metrics(1, 0.1, 1, {"train/loss": math.nan})
        writer.finish("diverged", 3, "the loss became NaN")
    (root / "g/s/a/seed-0/preset.toml").write_text("no [toml")
    row = next(line for line in lsc(root, "compare", "s").stdout.splitlines() if "QUEUED" in line)
    assert row.split()[-2] == "-"
    assert "nan" not in lsc(root, "list").stdout
    shown = lsc(root, "compare", "s").stdout
    assert "a: preset.toml" in shown
    assert "it is compared with nothing" in shown
    assert "different data" not in shown
    for wrong in (
        ["a/seed-0"],
        ["s", "--level", "x"],
        ["s", "--baseline", "zz"],
        ["s", "--level", "train/acuracy=0.9"],
        ["s", "--level", "train/accuracy=90"],
        ["s", "--level", "train/loss=-1"],
    ):
        assert lsc(root, "compare", *wrong).returncode == 2


def test_log_and_stop_a_live_run(root: Path) -> None:
    folder = root / "g/s/queued/seed-0"
    child = detach([sys.executable, "-c", WRITER, str(folder)], folder / "process.txt")
    pid = child.pid
    wait_until(lambda: open_run(folder).status().shown_state == "running")
    status = read_status(folder)
    assert status.pid == pid
    assert os.getsid(pid) == pid
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    follower = processes.start("log", "queued", "--follow", env={"LSC_RUNS": str(root)}, **pipes)
    refused = lsc(root, "delete", "queued", "--yes")
    assert refused.returncode == 1
    assert "is running: stop it first" in refused.stderr
    asked = lsc(root, "stop", "queued", "--json")
    assert json.loads(asked.stdout) == {"id": "g/s/queued/seed-0", "state": "running", "asked": True}
    out, err = follower.communicate(timeout=240)
    assert follower.returncode == 0
    assert [line[9:] for line in out.splitlines()] == ["first line", "last line"]
    assert "stopped: asked to stop" in err
    again = lsc(root, "stop", "queued")
    assert again.returncode == 1
    assert "nothing to stop" in again.stderr
    assert (folder / "process.txt").read_text() == "first line\nlast line\n"
    child.wait()


def test_stop_now_ends_the_process(root: Path) -> None:
    folder = root / "g/s/queued/seed-0"
    child = detach([sys.executable, "-c", WRITER, str(folder)], folder / "process.txt")
    wait_until(lambda: open_run(folder).status().shown_state == "running")
    write_status(folder, replace(read_status(folder), total_steps=7))
    ended = lsc(root, "stop", "queued", "--now")
    assert (ended.returncode, ended.stderr) == (0, "g/s/queued/seed-0 stopped\n")
    assert open_run(folder).status().shown_state == "stopped"
    child.wait()


def test_log_of_finished_runs(root: Path) -> None:
    log = root / "g/s/a/seed-0/log.txt"
    assert lsc(root, "log", "a/seed-0").stdout == log.read_text()
    with open(log, "ab") as file:
        file.write(b"bar 1\rbar 2\r\n\x1b[2J\x9b evil \xff\n")
    text = lsc(root, "log", "a/seed-0", "--lines", "2").stdout
    assert "\x1b" not in text
    assert text.endswith("[2J\ufffd evil \ufffd\n")
    document = json.loads(lsc(root, "log", "a/seed-0", "--json").stdout)
    assert document["lines"][1:3] == ["bar 1", "bar 2"]
    none = lsc(root, "log", "queued")
    assert none.returncode == 1
    assert none.stderr == "g/s/queued/seed-0 has not started\n"


def test_notes_and_tags(root: Path) -> None:
    assert lsc(root, "note", "a/seed-0", "looks good").returncode == 0
    assert json.loads(lsc(root, "tag", "a/seed-0", "keep", "--json").stdout)["tags"] == ["keep"]
    shown = json.loads(lsc(root, "show", "a/seed-0", "--json").stdout)
    assert [note["text"] for note in shown["notes"]] == ["looks good"]
    assert "looks good" in lsc(root, "show", "a/seed-0").stdout
    assert "keep" in lsc(root, "list", "keep").stdout
    assert lsc(root, "tag", "a/seed-0", "keep", "--remove").returncode == 0
    assert lsc(root, "tag", "a/seed-0", "not a tag").returncode == 2
    assert lsc(root, "note", "a/seed-0", "\x1b[2J").returncode == 2
    refused = lsc(root, "tag", "a/seed-0", "--", "-keep").stderr
    assert "the first not a minus" in refused


def test_a_study_stands_for_all_of_its_runs(root: Path) -> None:
    ids = ["g/s/a/seed-0", "g/s/b/seed-0", "g/s/queued/seed-0"]
    assert [one["id"] for one in json.loads(lsc(root, "tag", "g/s", "keep", "--json").stdout)] == ids
    lsc(root, "tag", "a/seed-0", "keep", "--remove")
    left = json.loads(lsc(root, "tag", "s", "keep", "--remove", "--json").stdout)
    assert [one["tags"] for one in left] == [[], [], []]
    assert lsc(root, "tag", "s", "keep", "--remove").returncode == 2
    assert all(one["notes"] == ["seen"] for one in json.loads(lsc(root, "note", "s", "seen", "--json").stdout))
    refused = lsc(root, "delete", "s")
    assert refused.returncode == 2
    assert refused.stderr.startswith("move 3 runs (")
    assert f"to the trash: {', '.join(ids)}: give --yes" in refused.stderr
    assert [one["id"] for one in json.loads(lsc(root, "delete", "s", "--yes", "--json").stdout)["deleted"]] == ids
    assert json.loads(lsc(root, "list", "--json").stdout) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("run x --gpus-per-run 0", '--gpus-per-run: "0" is not a whole number of 1 or more'),
        ("log a/seed-0 -n -1", '--lines: "-1" is not a whole number of 0 or more'),
        ("vectors V21 --n many", '--n: "many" is not a whole number'),
        ("nmin 10 --max-cosine x", '--max-cosine: "x" is not a number'),
    ],
)
def test_a_number_that_an_option_does_not_take_is_one_sentence(root: Path, words: str, sentence: str) -> None:
    done = lsc(root, *words.split())
    assert (done.returncode, done.stderr) == (2, f"{sentence}\n")


# Root may write everywhere; without this capability it is as bound by the modes of folders as anyone.
AS_ANYONE = ("setpriv", "--bounding-set=-dac_override") if os.geteuid() == 0 else ()


@pytest.mark.skipif(bool(AS_ANYONE) and shutil.which("setpriv") is None, reason="root may write everywhere")
def test_folders_of_others_are_read_only() -> None:
    """Looking works, changing is a sentence and exit 1."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        root = make_runs(Path(place))
        folder = root / "g/s/a/seed-0"
        closed = (folder, folder.parent, root, root / "g/s/queued/seed-0")
        for one in closed:
            one.chmod(0o555)
        assert lsc(root, "list", before=AS_ANYONE).returncode == 0
        commands = (
            ["note", "a/seed-0", "x"], ["tag", "a/seed-0", "x"], ["delete", "a/seed-0", "--yes"], ["stop", "queued"],
        )  # fmt: skip
        for words in commands:
            refused = lsc(root, *words, before=AS_ANYONE)
            assert (refused.returncode, refused.stdout) == (1, "")
            assert "Permission denied" in refused.stderr
            assert len(refused.stderr.splitlines()) == 1
        for one in closed:
            one.chmod(0o755)


def test_delete_confirms_and_moves_to_the_trash(root: Path) -> None:
    refused = lsc(root, "delete", "a/seed-0")
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert (root / "g/s/a").exists()
    done = json.loads(lsc(root, "delete", "a/seed-0", "b/seed-0", "--yes", "--json").stdout)
    places = [Path(one["trash"]) for one in done["deleted"]]
    assert all((place / "preset.toml").is_file() and ".trash" in place.parts for place in places)
    assert [run["id"] for run in json.loads(lsc(root, "list", "--json").stdout)] == ["g/s/queued/seed-0"]


@pytest.mark.parametrize(("answer", "gone"), [(b"n\n", False), (b"\n", False), (b"y\n", True)])
def test_delete_confirms_on_a_terminal(root: Path, answer: bytes, gone: bool) -> None:
    master, slave = pty.openpty()
    environment = {**os.environ, "LSC_RUNS": str(root)}
    command = [sys.executable, "-m", "lsc_engine", "delete", "a/seed-0"]
    child = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment)
    os.write(master, answer)
    assert child.wait(240) == 0
    os.close(slave)
    assert b"[y/N]" in os.read(master, 4096)
    os.close(master)
    assert (root / "g/s/a").exists() is not gone


def test_hostile_text_reaches_no_terminal(root: Path) -> None:
    folder = root / "g/s/a/seed-0"
    evil = "\x1b]0;owned\x07\x9b2J\u202e\ud800"
    (folder / "notes.json").write_text(json.dumps({"notes": [{"text": evil, "author": evil}], "tags": [evil]}))
    status = json.loads((folder / "status.json").read_text())
    evil_status = {**status, "host": evil, "device": evil, "message": evil, "metrics": {evil: 1.0}}
    (folder / "status.json").write_text(json.dumps(evil_status))
    (folder / "preset.toml").write_text(
        'when = 2020-01-01\n[target]\nmethod = "\\u001b[2J"\n[run]\nlabel = "\\u009b"\n'
    )
    with open(folder / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": 200, evil[:-1]: 1.0, "train/loss": 1.0}) + "\n")
    for words in (["list"], ["list", "--json"], ["show", "a/seed-0", "--plot"], ["show", "a/seed-0", "--json"],
                  ["compare", "s"], ["compare", "s", "--json"], ["log", "a/seed-0"]):  # fmt: skip
        done = lsc(root, *words)
        assert done.returncode == 0, done.stderr
        assert all(c.isprintable() or c in "\n\t" for c in done.stdout + done.stderr), words
        if "--json" in words:
            json.loads(done.stdout)


def test_output_that_cannot_be_written_is_a_sentence(root: Path) -> None:
    for words in ("list", "list --json", "nmin 1000"):
        with open("/dev/full", "w") as full:
            done = processes.call(*words.split(), stdout=full, env={"LSC_RUNS": str(root)})
        assert (done.returncode, done.stderr) == (1, "the results cannot be printed: No space left on device\n")


def test_every_command_has_an_example(root: Path) -> None:
    for name in ("list", "show", "compare", "log", "stop", "note", "tag", "delete"):
        text = lsc(root, name, "--help").stdout
        assert f"Example: lsc-engine {name}" in text
        assert "--json" in text


def test_looking_loads_no_torch(root: Path) -> None:
    assert importlib.util.find_spec("torch") is not None
    code = (
        "import sys; sys.argv = ['lsc-engine', 'show', 'a/seed-0', '--plot']; from lsc_engine.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'matplotlib', 'pandas', 'sklearn') if m in sys.modules])"
    )
    environment = {**os.environ, "LSC_RUNS": str(root)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines()[-1] == "[]"
