"""Damaged and hostile run folders, random keys and sizes: nothing raises, no file writes to the terminal."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from pathlib import Path

import pytest
from samples import make_study
from tui_helpers import open_app, settle, text_of

from lsc_tui.lines import ascii_twin, clean
from lsc_tui.widgets.log_pane import plain

EVIL = "\x1b]0;owned\x07\x1b[2J\x1b[31mred\r\n\x9b31m\u202e\u200b漢字\U0001f600\x00\ud800"
KEYS = [
    *"12345kjhl gGbdu*pc,.imrnteswxXyo+-0[]vzfSCRFNDL?:/q",
    "up", "down", "left", "right", "pageup", "pagedown", "enter", "escape", "tab", "f1", "f2", "f6", "home", "end", "y",
    "T",
]  # fmt: skip


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


async def test_every_damaged_run_is_a_row_and_opens(hostile: Path) -> None:
    async with open_app(hostile, size=(160, 48)) as (app, pilot):
        assert sum(1 for view in app.store.runs.values() if view.study == "bad") >= 20
        unreadable = [view for view in app.store.runs.values() if view.state == "unreadable"]
        assert len(unreadable) >= 5
        for key in sorted(app.store.runs):
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


@pytest.mark.parametrize("seed", range(3))
async def test_random_keys_and_sizes(hostile: Path, seed: int) -> None:
    rng = random.Random(seed)
    steps = int(os.environ.get("LSC_FUZZ_STEPS", "60"))
    async with open_app(hostile, size=(80, 24), ascii=seed == 1) as (app, pilot):
        for step in range(steps):
            if step % 10 == 0:
                await pilot.resize_terminal(rng.randint(2, 400), rng.randint(1, 120))
            key = rng.choice(KEYS)
            if key == "q":
                # Leaving is not a crash, but ends the test.
                key = "escape"
            await pilot.press("space" if key == " " else key)
            if step % 25 == 0:
                await pilot.pause()
                _assert_clean(text_of(app))
        assert app._exception is None


async def test_runs_that_appear_change_and_vanish(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        before = len(app.store.runs)
        make_study(runs, [("A-384", 0, "finished", 20, 0.3)], name="late")
        app.collector.rescan()
        for _ in range(200):
            await pilot.pause(0.02)
            if len(app.store.runs) > before:
                break
        assert "0:late/A-384/seed-0" in app.store.runs
        shutil.rmtree(runs / "late")
        app.collector.rescan()
        for _ in range(200):
            await pilot.pause(0.02)
            if len(app.store.runs) == before:
                break
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
