"""Terminals that take no escape codes: TERM=dumb (shells of editors), unknown, or not set."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TERMS = ["dumb", "unknown", "", None]


def on_terminal(folder: Path, term: str | None, module: str, *words: str) -> tuple[int, str]:
    """Exit code, and all that was written to the terminal that stdin, stdout and stderr are."""
    env = {key: value for key, value in os.environ.items() if key not in ("TERM", "NO_COLOR", "FORCE_COLOR")}
    env |= {"PYTHONPATH": str(ROOT)} | ({} if term is None else {"TERM": term})
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", module, *words], cwd=folder, env=env, stdin=slave, stdout=slave, stderr=slave,
        start_new_session=True,
    ) as process:  # fmt: skip
        os.close(slave)
        written = b""
        # The terminal reads as an error when its last writer has gone.
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:
                break
            if not part:
                break
            written += part
    os.close(master)
    return process.returncode, written.decode()


@pytest.mark.parametrize("term", TERMS)
def test_the_viewer_reports_that_it_needs_another_terminal(tmp_path: Path, term: str | None) -> None:
    code, text = on_terminal(tmp_path, term, "lsc_tui", "--runs-dir", str(tmp_path))
    assert code == 2
    assert text.startswith("lsc-tui needs a terminal; --once prints one frame")
    assert "\x1b" not in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize("term", ["dumb", None])
def test_one_frame_and_the_engine_write_no_escape_codes(tmp_path: Path, term: str | None) -> None:
    code, frame = on_terminal(tmp_path, term, "lsc_tui", "--once", "--runs-dir", str(tmp_path))
    assert code == 0
    assert "Runs" in frame
    for words, ended in ((("nmin", "1000"), 0), (("presets",), 0), (("run", "nope"), 2)):
        code, text = on_terminal(tmp_path, term, "lsc_engine", *words)
        assert code == ended
        assert text.strip()
        frame += text
    assert "\x1b" not in frame


def test_a_real_terminal_still_gets_colour(tmp_path: Path) -> None:
    code, text = on_terminal(tmp_path, "xterm-256color", "lsc_engine", "run", "nope")
    assert code == 2
    assert text.startswith("\x1b[31m")
