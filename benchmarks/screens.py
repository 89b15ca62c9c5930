"""Remake docs/screens/*.svg: pictures of the screens, made by the program itself from the runs of `lsc-tui --demo`.

    python -m benchmarks.screens [--out DIR]

The runs are real and recorded (benchmarks/record_demo.py); two of them are shown in the middle of their training. The
picture is Textual's own of the cells on the screen. Takes some seconds; prints the size of each file.
"""

from __future__ import annotations

import argparse
import asyncio
import html
import json
import os
import re
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from textual.pilot import Pilot

from lsc_tui.app import LscApp
from lsc_tui.demo import AGO, ARCHIVE, HOST, Replay, move_times
from lsc_tui.render_once import screen_text, settled

OUT = Path(__file__).parent.parent / "docs" / "screens"
LARGE, SMALL = (160, 48), (80, 24)
# The runs at work, and how much of them has been done.
LIVE, GROWING = "spectrum-2k/V21/seed-1", "digits-sphere/A-3/seed-0"
SHARES = {LIVE: 0.7, GROWING: 0.3}
MOST_BYTES = 300_000
# Once the check in the background has counted.
COUNTED = re.compile(r"parameters +[\d.]")
# A picture must be whole without fetching a font.
_FETCHED = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
_FONTS = "Fira Code, DejaVu Sans Mono, Menlo, Consolas, monospace"
_TEXT = re.compile(r'<text (?P<before>[^>]*?)x="(?P<x>[\d.]+)" (?P<y>y="[\d.]+") textLength="(?P<length>[\d.]+)"'
                   r'(?P<after>[^>]*)>(?P<words>[^<]*)</text>')  # fmt: skip
_SPACE = "&#160;"


def example_runs(home: Path) -> Path:
    """The recorded runs as ~/runs, with one of them at work; nothing moves on."""
    with tarfile.open(ARCHIVE) as file:
        file.extractall(home, filter="data")
    runs = home / "runs"
    move_times(runs, time.time() - AGO)
    plan = json.loads((home / "replay.json").read_text())
    Replay(runs, {key: SHARES.get(key, 0.0) for key in plan})
    return runs


async def wait_for(app: LscApp, pilot: Pilot[None], ready: Callable[[str], bool], seconds: float = 90.0) -> None:
    """Wait until all curves have come and are drawn."""
    deadline = time.monotonic() + seconds
    alive = [app.folders[0] / run / "status.json" for run in SHARES]
    while not (app.store.loaded and settled(app) and ready(screen_text(app))):
        for path in alive:
            # A run at work writes now and then; on a slow machine a picture may take longer than that.
            os.utime(path)
        if time.monotonic() > deadline:
            raise SystemExit(f"not ready after {seconds:.0f} s:\n{screen_text(app)}")
        await pilot.pause(0.05)
    await pilot.pause(0.2)


def portable(picture: str) -> str:
    """The picture without fonts to fetch and without spaces at the ends of texts, which not every viewer keeps."""

    def trim(found: re.Match[str]) -> str:
        words = found["words"]
        cells = len(html.unescape(words))
        kept = words.removesuffix("\n")
        while kept.endswith(_SPACE):
            kept = kept.removesuffix(_SPACE)
        if not kept:
            return ""
        left = 0
        while kept.startswith(_SPACE):
            kept, left = kept.removeprefix(_SPACE), left + 1
        cell = float(found["length"]) / cells
        at, length = float(found["x"]) + left * cell, len(html.unescape(kept)) * cell
        return (
            f'<text {found["before"]}x="{at:.1f}" {found["y"]} textLength="{length:.1f}"{found["after"]}>{kept}</text>'
        )

    return _TEXT.sub(trim, _FETCHED.sub("", picture).replace("Fira Code, monospace", _FONTS))


async def pictures(home: Path, size: tuple[int, int], theme: str, wanted: set[str]) -> dict[str, str]:
    """Screen name -> SVG."""
    out: dict[str, str] = {}
    app = LscApp([home / "runs"], config=home / "config", host=HOST, theme=theme, demo=True)
    async with app.run_test(size=size) as pilot:

        async def take(name: str, *keys: str, ready: Callable[[str], bool] = bool) -> None:
            if name in wanted:
                await pilot.press(*keys)
                await wait_for(app, pilot, ready)
                out[name] = portable(app.export_screenshot(title="lsc-tui"))

        await wait_for(app, pilot, lambda text: "20 runs" in text)
        at = next(i for i, row in enumerate(app.lsc_screen.table.rows) if row.key.endswith("spectrum-2k"))  # type: ignore[attr-defined]
        await take("runs", "g", "down", "space", "down", "down", "space", "up")
        await pilot.press("g", *["down"] * at)
        await take("compare", "enter", *["left"] * 30, ready=lambda text: "verdict" in text)
        app.watch_run(f"0:{LIVE}")
        await take("monitor", "left", ready=lambda text: "epoch" in text)
        app.watch_run(f"0:{GROWING}")
        await wait_for(app, pilot, lambda text: "digits-sphere" in text)
        await take("embeddings", "m", ready=lambda text: "by class" in text)
        if "new" in wanted:
            await pilot.press("4")
            await wait_for(app, pilot, lambda text: "at hand here" in text)
        await take("new", "g", "down", "down", "enter", ready=lambda text: bool(COUNTED.search(text)))
        await take("vectors", "5", ready=lambda text: "V21" in text)
    return out


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    everything = {"runs", "monitor", "embeddings", "compare", "new", "vectors"}
    jobs = [
        ("160x48", LARGE, "lsc-dark", everything),
        ("80x24", SMALL, "lsc-dark", {"runs", "monitor", "embeddings", "compare"}),
        ("160x48-light", LARGE, "lsc-light", {"compare"}),
    ]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HOME"] = folder
        home = Path(folder)
        example_runs(home)
        for word, size, theme, wanted in jobs:
            for name, picture in asyncio.run(pictures(home, size, theme, wanted)).items():
                path = out / f"{name}-{word}.svg"
                path.write_text(picture, encoding="utf-8")
                print(f"{path.name:28} {path.stat().st_size / 1000:6.1f} kB")
                assert path.stat().st_size < MOST_BYTES, f"{path} is larger than {MOST_BYTES} bytes"


if __name__ == "__main__":
    main()
