"""Standard streams of every kind: closed, full, of another encoding, no files at all; texts that are not UTF-8."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lsc_engine.runs.read.run import open_run
from tests import processes
from tests.tiny import PERCEPTRON, tiny

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PRESET = tiny(PERCEPTRON | {"title": "Tiny … ± 日本 😀"})


def shell(folder: Path, words: str, module: str = "lsc_engine", **env: str) -> subprocess.CompletedProcess[bytes]:
    """A command in a shell, which closes and redirects streams."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHONIO", "LC_", "LANG"))}
    return subprocess.run(
        ["bash", "-c", f"{shlex.quote(sys.executable)} -m {module} {words}"], cwd=folder, capture_output=True,
        stdin=subprocess.DEVNULL, env={**inherited, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **env},
    )  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "t.toml").write_text(PRESET, encoding="utf-8")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"])
def test_a_run_trains_with_closed_streams(place: Path, closed: str) -> None:
    done = shell(place, f"run t.toml {closed}")
    assert done.returncode == 0, done.stderr
    run = open_run("t/default/seed-0", [place / "runs"])
    assert run.status().state == "finished"
    # Nothing was printed into a file that had taken the number of a closed stream.
    assert run.log_path.read_text().count("checkpoint step 4") == 1
    assert all(json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines())


@pytest.mark.parametrize("closed", ["1>&-", "0<&- 1>&- 2>&-"])
@pytest.mark.parametrize(("words", "code"), [("list", 0), ("nmin 100 --json", 0), ("run nope", 2), ("delete x", 2)])
def test_other_commands_end_as_ever_with_closed_streams(place: Path, words: str, code: int, closed: str) -> None:
    done = shell(place, f"{words} {closed}")
    assert done.returncode == code
    assert b"Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("closed", ["0<&-", "0<&- 1>&- 2>&-"])
def test_the_viewer_with_closed_streams_needs_a_terminal(place: Path, closed: str) -> None:
    done = shell(place, closed, module="lsc_tui")
    assert done.returncode == 2
    assert done.stderr.startswith(b"" if "2>" in closed else b"lsc-tui needs a terminal; --once prints one frame")


@pytest.mark.parametrize(
    "env",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "koi8-r:strict"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=str,
)
def test_what_a_terminal_cannot_show_is_shown_by_its_number(place: Path, env: dict[str, str]) -> None:
    (place / "named.toml").write_text(PRESET + '[[variants]]\nname = "one"\nlabel = "é 日本 😀"\n', encoding="utf-8")
    told = shell(place, "check named.toml", **env)
    assert told.returncode == 0, told.stderr
    assert b"label" in told.stdout
    wrong = shell(place, "run 't…é.toml'", **env)
    assert wrong.returncode == 2
    assert b"Traceback" not in wrong.stderr


def test_what_ascii_lacks_stays_json_and_in_a_frame(place: Path) -> None:
    # Also characters that Python would write as \\U0001f600.
    document = json.loads(shell(place, "check t.toml --json", PYTHONIOENCODING="ascii").stdout.decode("utf-8"))
    assert document["title"] == "Tiny … ± 日本 😀"
    frame = shell(place, "--once", module="lsc_tui", PYTHONIOENCODING="ascii")
    assert frame.returncode == 0, frame.stderr
    assert b"Runs" in frame.stdout


@pytest.mark.parametrize(
    "words",
    [
        b"run t\xff.toml",
        b"show \xe9\xff",
        b"check t.toml --set data.path=caf\xe9",
        b"check t.toml --name \xfe",
        b"run t.toml --variant \xfe --seeds \xfe",
        b"run t.toml --device \xfe",
    ],
)
def test_arguments_that_are_not_text_are_refused_with_a_sentence(place: Path, words: bytes) -> None:
    done = processes.call(*map(os.fsdecode, words.split()), cwd=place, code=2)
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr
    assert not (place / "runs").exists()


@pytest.mark.slow
def test_folders_whose_names_are_not_text_can_be_used(place: Path) -> None:
    done = shell(place, "run t.toml --runs-dir $'r\\xe9'")
    assert done.returncode == 0, done.stderr
    listed = shell(place, "list --json --runs-dir $'r\\xe9'")
    assert [run["state"] for run in json.loads(listed.stdout)] == ["finished"]
    assert shell(place, "list --runs-dir $'r\\xe9'").returncode == 0
    assert shell(place, "report t --runs-dir $'r\\xe9'").returncode == 0
    assert shell(place, "--once --runs-dir $'r\\xe9'", module="lsc_tui").returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_streams_that_take_nothing(place: Path) -> None:
    full = shell(place, "nmin 100 >/dev/full")
    assert full.returncode == 1
    assert full.stderr == b"the results cannot be printed: No space left on device\n"
    reading = shell(place, "nmin 100 1</dev/null")
    assert reading.returncode == 1
    assert reading.stderr == b"the results cannot be printed: Bad file descriptor\n"
    assert shell(place, "run nope 2>/dev/full").returncode == 2
    assert shell(place, "nmin 100 2>/dev/full").returncode == 0


IN_PROCESS = """
import io, json, sys
from lsc_engine.cli import main
{stream}
for words in {commands!r}:
    given = sys.stdout = {made}
    sys.argv = ["lsc-engine", *words]
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    sys.stdout = sys.__stdout__
    print(json.dumps([code, {text}]))
"""
PLAIN = """
class Plain:
    "A text stream with no more than a text stream needs."
    def __init__(self): self.text = ""
    def write(self, text): self.text += text; return len(text)
    def flush(self): pass
    def isatty(self): return False
"""


@pytest.mark.parametrize(
    ("stream", "made", "text"),
    [("", "io.StringIO()", "given.getvalue()"), (PLAIN, "Plain()", "given.text")],
    ids=["StringIO", "plain"],
)
def test_the_command_in_process_writes_to_any_text_stream(place: Path, stream: str, made: str, text: str) -> None:
    commands = [["nmin", "1000"], ["nmin", "1000", "--json"]]
    code = IN_PROCESS.format(stream=stream, made=made, commands=commands, text=text)
    done: Any = subprocess.run(
        [sys.executable, "-c", code], cwd=place, capture_output=True, encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for words, line in zip(commands, done.stdout.splitlines(), strict=True):
        ended, printed = json.loads(line)
        assert ended == 0, done.stderr
        assert printed.rstrip() == processes.call(*words, cwd=place).stdout.rstrip()
        assert printed.strip()
