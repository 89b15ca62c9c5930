"""Damaged and hostile run folders, random keys and sizes: nothing raises, no file writes to the terminal."""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import random
import re
import shutil
import sys
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from samples import make_study
from textual import events
from textual.keys import _character_to_key
from textual.pilot import Pilot
from tui_helpers import open_app, settle, text_of

from lsc_tui.app import LscApp
from lsc_tui.lines import ascii_twin, clean
from lsc_tui.widgets.log import plain
from lsc_tui.widgets.panel import Panel
from tests.waiting import pause_until

EVIL = "\x1b]0;owned\x07\x1b[2J\x1b[31mred\r\n\x9b31m\u202e\u200b漢字\U0001f600\x00\ud800"
KEYS = [
    *"12345kjhl gGbdu*pc,.imrnteswxXyo+-0[]vzfSCRFNDL?:/q",
    "up", "down", "left", "right", "pageup", "pagedown", "enter", "escape", "tab", "f1", "f2", "f6", "home", "end", "y",
    "T",
]  # fmt: skip
NUMBERS = [
    b"0",
    b"-1",
    b"1e999",
    b"null",
    b'"x"',
    b"[]",
    b"9" * 400,
    b"1e308",
    b"-1e308",
    b"NaN",
    b"0.5",
    b"true",
    b"\xff",
]


def _write(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))


@pytest.fixture
def hostile(runs: Path) -> Path:
    """The ordinary runs and beside them everything that may be wrong with a run folder."""
    good = runs / "lsc-2025/fig9/V21-min/seed-0"
    bad = runs / "bad"
    for number, (name, content) in enumerate(
        [
            ("status.json", "{"),
            ("status.json", b"\xff\xfe\x00"),
            ("status.json", "[1, 2]"),
            ("status.json", json.dumps({"state": EVIL, "step": -1})),
            ("status.json", json.dumps({"state": "running", "step": 10**40, "eta": 1e308, "host": EVIL, "owner": [1],
                                        "metrics": {"train/loss": "x", EVIL: 1.0, "train/accuracy": None},
                                        "total_steps": 0, "seconds": -5, "started": 1e300, "epoch": -1e308})),
            ("preset.toml", "not toml ["),
            ("preset.toml", 'label = "\\u001b[31mred"\n[model]\nname = 5\ndim = "min"\n[train]\nduration = [1]\n'),
            ("preset.toml", "[data]\nclasses = -1\n[target]\nsystem = 7\n[provenance]\na = 5\n[compare]\nbaseline = 9"),
            ("metrics.jsonl", b'{"step": 1, "train/loss": 1}\n{"step": 2, "train/lo'),
            ("metrics.jsonl", b"\x00" * 5000 + b"\n" + b"x" * 100_000),
            ("metrics.jsonl", json.dumps({"step": 1, "epoch": 1e308, "time": -1e308, "train/loss": 1e308}) + "\n"
             + json.dumps({"step": 2, "train/loss": None, "train/accuracy": -1e308}) + "\n"),
            ("log.txt", EVIL.encode("utf-8", "replace") * 50 + b"\n" * 5 + b"a" * 300_000),
            ("notes.json", json.dumps({"notes": [{"text": EVIL, "time": "x"}, 5], "tags": [EVIL, 3]})),
            ("source.json", json.dumps({"parent": {"id": 5}, "commit": EVIL, "slurm_job_id": EVIL})),
            ("source.json", json.dumps({"parent": "bad/v14/seed-0", "code": []})),
        ]
    ):  # fmt: skip
        folder = bad / f"v{number}" / "seed-0"
        shutil.copytree(good, folder)
        _write(folder / name, content)
    for name in ("status.json", "metrics.jsonl", "preset.toml", "log.txt"):
        folder = bad / f"gone-{name.partition('.')[0]}" / "seed-0"
        shutil.copytree(good, folder)
        (folder / name).unlink()
    shutil.copytree(good, bad / "fifo" / "seed-0")
    (bad / "fifo" / "seed-0" / "log.txt").unlink()
    os.mkfifo(bad / "fifo" / "seed-0" / "log.txt")
    (bad / "link").mkdir()
    (bad / "link" / "seed-0").symlink_to("/etc")
    (bad / "empty" / "seed-0").mkdir(parents=True)
    (runs / "\x1b[31mname").mkdir()
    return runs


def _assert_clean(text: str) -> None:
    for line in text.splitlines():
        assert all(c.isprintable() for c in line), repr(line)
    assert "owned" not in text or "\x07" not in text


@pytest.mark.slow
async def test_every_damaged_run_is_a_row_and_opens(hostile: Path) -> None:
    async with open_app(hostile, size=(160, 48)) as (app, pilot):
        assert sum(1 for view in app.store.runs.values() if view.study == "bad") >= 20
        unreadable = [view for view in app.store.runs.values() if view.state == "unreadable"]
        assert len(unreadable) >= 5
        for key in sorted(key for key, view in app.store.runs.items() if view.study == "bad"):
            app.watch_run(key)
            await settle(app, pilot)
            _assert_clean(text_of(app))
            await pilot.press("m", "d", "left")
            _assert_clean(text_of(app))
            await pilot.press("d")
        app.go("runs")
        await pilot.pause()
        for _ in range(len(app.store.runs)):
            await pilot.press("down")
            _assert_clean(text_of(app))


def _damage(rng: random.Random, runs: Path) -> None:
    """One file of one damaged run becomes something else, in the middle of the reading."""
    folder = rng.choice(sorted((runs / "bad").iterdir())) / "seed-0"
    if folder.is_symlink():
        return
    path = folder / rng.choice(["status.json", "preset.toml", "metrics.jsonl", "log.txt", "notes.json", "source.json"])
    good = (runs / "lsc-2025/fig9/V21-min/seed-0" / path.name).read_bytes() if path.name != "notes.json" else b"{}"
    at = rng.randrange(len(good) + 1)
    evil = EVIL.encode("utf-8", "surrogatepass")
    content = rng.choice(
        [
            good, good[:at], good[at:], good[:at] + evil + good[at:], good * rng.randrange(1, 60), rng.randbytes(300),
            re.sub(rb"[0-9]+", lambda _: rng.choice(NUMBERS), good), good.replace(b'"', b"", 5), b"[" * 100_000,
            good[:at] + bytes([rng.randrange(256)]) + good[at + 1 :], b"", b"{}", b"null", good.replace(b":", b":[", 3),
        ]
    )  # fmt: skip
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    kind = rng.randrange(12)
    if kind == 0:
        path.mkdir()
    elif kind == 1:
        path.symlink_to(rng.choice(["/dev/zero", "/etc/passwd", "nowhere", path.name]))
    elif kind > 2:
        _write(path, content)


def _hit(app: LscApp, key: str) -> None:
    """The key as the terminal sends it, without waiting for what it does."""
    character = key if len(key) == 1 else " " if key == "space" else None
    name = key if len(key) > 1 or key.isalnum() else _character_to_key(key)
    app.post_message(events.Key(name, character))


async def _strike(app: LscApp, pilot: Pilot[Any], rng: random.Random, runs: Path, steps: int) -> None:
    """Random keys, sizes and damage. A failure is reported with the keys that led there."""
    keys: deque[str] = deque(maxlen=60)
    for step in range(steps):
        # Leaving is not a crash, but ends the test.
        key = rng.choice(KEYS).replace("q", "escape").replace(" ", "space")
        size = rng.randint(2, rng.choice([12, 80, 400])), rng.randint(1, rng.choice([4, 24, 120]))
        keys += [*([f"{size[0]}x{size[1]}"] if step % 10 == 0 else []), key]
        if step % 30 == 29:
            _damage(rng, runs)
        # A hang is reported with the place.
        faulthandler.dump_traceback_later(120, file=sys.__stderr__)
        try:
            if step % 10 == 0:
                await pilot.resize_terminal(*size)
            _hit(app, key)
            # Several keys in a row may wait, as under a quick hand.
            await pilot.pause(0) if rng.random() < 0.7 else await asyncio.sleep(0)
            if step % 25 == 0:
                await pilot.pause()
                _assert_clean(text_of(app))
            assert app._exception is None
            assert app.poller.is_alive()
        except BaseException as error:
            raise AssertionError(f"step {step}: {app._exception or error!r} after {' '.join(keys)}") from error
        finally:
            faulthandler.cancel_dump_traceback_later()


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 9))])
async def test_random_keys_and_sizes(hostile: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """While files change. What is started answers nonsense; LSC_FUZZ_STEPS sets the number of keys, of 3 x 60 else."""
    rng = random.Random(seed + int(os.environ.get("LSC_FUZZ_SEED", "0")))
    home = hostile.parent
    program = home / "engine"
    _write(home / "answer", json.dumps({"parameters": EVIL, "memory": [1], "faults": {}, "n": -1}) + "\n" + EVIL)
    _write(program, f"#!/bin/sh\ncase $$ in *[0-3]) cat {home}/answer;; *[4-6]) cat {home}/answer >&2; exit 2;; esac\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.chdir(home)
    steps = int(os.environ.get("LSC_FUZZ_STEPS", "180")) // 3
    async with open_app(hostile, size=(80, 24), ascii=seed == 1) as (app, pilot):
        await _strike(app, pilot, rng, hostile, steps)


async def test_a_hostile_label_is_clean_in_every_sentence(hostile: Path) -> None:
    """Also in the reasons that help and palette give, which name the run."""
    folder = hostile / "bad/v6/seed-0"
    status = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(json.dumps(status | {"state": "stalled"}))
    async with open_app(hostile, size=(120, 50)) as (app, pilot):
        assert app.store.runs["0:bad/v6/seed-0"].label == "�[31mred"
        app.watch_run("0:bad/v6/seed-0")
        await settle(app, pilot)
        for key in ("?", "escape", ":"):
            await pilot.press(key)
            await pilot.pause()
            _assert_clean(text_of(app))
        panel = app.screen.query_one("#found", Panel)
        panel._draw = lambda width, height: [[(EVIL, "")]]
        panel.redraw()
        _assert_clean(panel.text())
        assert all(segment.text.isprintable() for segment in panel.render_line(0))


async def test_keys_struck_faster_than_an_overlay_closes(runs: Path) -> None:
    """The key behind the one that closes it must not close what lies below, nor do a command twice."""
    async with open_app(runs) as (app, pilot):
        for opened in ("?", ":"):
            _hit(app, opened)
            await pause_until(pilot, lambda: len(app.screen_stack) == 2)
            for _ in range(3):
                _hit(app, "escape")
            await pause_until(pilot, lambda: len(app.screen_stack) == 1)
            await pilot.pause()
            assert [type(screen).__name__ for screen in app.screen_stack] == ["RunsScreen"]


async def test_a_letter_right_after_esc_answers_no_question_and_enters_no_field(runs: Path) -> None:
    """Terminals make one key of the two, `alt+k`, whose character is an answer and printable."""
    async with open_app(runs) as (app, pilot):
        screen = app.lsc_screen
        answered: list[str] = []
        screen.ask("stop it?", {"k": ("kill now", lambda: answered.append("k"))})
        await pilot.pause()
        table = screen.table  # type: ignore[attr-defined]
        await pilot.press("down")  # no answer: closes the question
        assert screen._question is None
        before = table.cursor
        screen.ask("stop it?", {"k": ("kill now", lambda: answered.append("k"))})
        await pilot.pause()
        app.post_message(events.Key("alt+j", "j"))
        await pilot.pause()
        assert (screen._question, table.cursor) == (None, before + 1), "Esc, then j"
        screen.ask("stop it?", {"k": ("kill now", lambda: answered.append("k"))})
        await pilot.pause()
        app.post_message(events.Key("alt+k", "k"))
        await pilot.pause()
        assert (screen._question, table.cursor, answered) == (None, before, [])
        await pilot.press("n", "a")
        app.post_message(events.Key("alt+b", "b"))
        await pilot.pause()
        assert screen.field is not None
        assert screen.field.value == "a"


async def test_runs_that_appear_change_and_vanish(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        before = len(app.store.runs)
        make_study(runs, [("A-384", 0, "finished", 20, 0.3)], name="late")
        app.poller.rescan()
        await pause_until(pilot, lambda: len(app.store.runs) > before)
        assert "0:late/A-384/seed-0" in app.store.runs
        shutil.rmtree(runs / "late")
        app.poller.rescan()
        await pause_until(pilot, lambda: len(app.store.runs) == before)
        assert len(app.store.runs) == before


async def test_a_folder_that_is_not_there_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    async with open_app(tmp_path / "nowhere") as (app, _):
        assert "~/nowhere is not there (moved? not mounted?), looking again every 5 s" in text_of(app)
        assert "--demo" in text_of(app)


async def test_no_runs_names_the_next_key(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    async with open_app(tmp_path / "runs") as (app, _):
        assert "4  choose a preset" in text_of(app)


def test_text_of_files_is_made_harmless() -> None:
    assert clean(EVIL).isprintable()
    assert plain("\x1b[1;31mred\x1b[0m \x1b]8;;http://x\x07link").startswith("red ")
    assert ascii_twin("▌● █▉░×漢").isascii()
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", clean(EVIL))
