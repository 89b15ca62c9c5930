"""Text that comes all at once, as a fast typist or a paste sends it, over a real terminal: it arrives as text, and no
run is touched. LSC_BURSTS sets how often each field is tried."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path

import pytest
from samples import make_study
from terminal import Terminal

BURSTS = int(os.environ.get("LSC_BURSTS", "3"))
SIZES = [(80, 24), pytest.param((160, 48), marks=pytest.mark.slow)]
RUN = "lsc-2025/fig9/A-384/seed-0"
# Every character is a command, and most words hold those that act on runs.
TEXTS = ("Dynamics changed", "Stop, Resume, Delete y", "q 12345 :L", "ends in CRASH k", "why? *u [Dy]", "nDyn tSy")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three studies, and a home for the viewer's own files and presets."""
    monkeypatch.setenv("LSC_PRESETS", str(tmp_path / "presets"))
    monkeypatch.setenv("LSC_DATA", str(tmp_path / "data"))
    folder = tmp_path / "runs"
    make_study(folder)
    return folder


@pytest.fixture(params=SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def viewer(runs: Path, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    """The viewer with the cursor on the run RUN."""
    terminal = Terminal.viewer(runs, runs.parent, size=request.param)
    try:
        terminal.until("✓ finished")
        terminal.keys("g\x1b[B")
        terminal.until(lambda text: any("▌" in line and "A shuffled n=384" in line for line in text.splitlines()))
        before = untouched(runs)
        yield terminal
        assert terminal.alive, terminal.screen.text
        assert untouched(runs) == before
        assert not (runs / ".trash").exists()
    finally:
        terminal.close()


def untouched(runs: Path) -> dict[str, bytes]:
    """All files of the runs but their notes: what a note or a tag must not change. Each minute the viewer measures the
    clock of the file system by a file that is there for a moment."""
    files = [path for path in runs.rglob("*") if path.is_file() and path.name != "notes.json"]
    files = [path for path in files if not path.name.startswith(".clock-")]
    return {str(path.relative_to(runs)): path.read_bytes() for path in files if ".views" not in path.parts}


def notes(runs: Path) -> dict[str, list[str]]:
    """Notes and tags of RUN; of any other run there are none."""
    assert [str(path.parent.relative_to(runs)) for path in runs.rglob("notes.json")] in ([], [RUN])
    try:
        found = json.loads((runs / RUN / "notes.json").read_text())
    except FileNotFoundError:
        return {"notes": [], "tags": []}
    return {"notes": [note["text"] for note in found["notes"]], "tags": found["tags"]}


def pasted(text: str) -> str:
    """As a terminal sends a paste."""
    return f"\x1b[200~{text}\x1b[201~"


def bursts() -> list[tuple[int, str]]:
    return list(enumerate(islice(cycle(TEXTS), BURSTS)))


@pytest.mark.parametrize("send", [str, pasted], ids=["typed", "pasted"])
def test_notes_and_tags(viewer: Terminal, runs: Path, send: Callable[[str], str]) -> None:
    for number, text in bursts():
        note, tag = f"{text} {number}", f"D{number}{text.replace(' ', '').replace(',', '')}"
        viewer.keys(f"n{send(note)}\r")
        viewer.until(lambda _, n=number, note=note: notes(runs)["notes"][n:] == [note])
        viewer.keys(f"t{send(tag)}\r")
        viewer.until(lambda _, n=number, tag=tag: notes(runs)["tags"][n:] == [tag])


@pytest.mark.parametrize("send", [str, pasted], ids=["typed", "pasted"])
def test_a_filter(viewer: Terminal, runs: Path, send: Callable[[str], str]) -> None:
    state = next((runs.parent / "config").rglob("view-*.json"), None)
    for number, text in bursts():
        words = ("V21", "Dyn", "n_min S", "study:queued", "seed:1 y")[number % 5] + f"{text[:2]}{number}"
        viewer.keys(f"/{send(words)}\r")

        def kept(_: str, words: str = words) -> bool:
            nonlocal state
            state = state or next((runs.parent / "config").rglob("view-*.json"), None)
            return state is not None and json.loads(state.read_text()).get("filter") == words

        viewer.until(kept)
    viewer.keys("/V21\r")
    viewer.until(lambda text: "▌" not in text or "V21" in text)
    viewer.keys("\x1b")
    viewer.until("A shuffled n=384")


def test_the_palette(viewer: Terminal) -> None:
    for number, _ in bursts():
        viewer.keys(":theme\r")
        viewer.until("theme lsc-")
        viewer.keys(":seeds\r")
        viewer.until("×2" if number % 2 == 0 else lambda text: "×2" not in text)


def test_fields_of_new_run(viewer: Terminal, runs: Path) -> None:
    viewer.keys("4/demo\r")
    viewer.until("1 of ")
    viewer.keys("\r")
    viewer.until("weight_decay" if viewer.screen.width > 80 else "shuffled n=384")
    row_to(viewer, "batch_size")
    for number, _ in bursts():
        # The batch size, then the name of a preset.
        viewer.keys(f"\r\x7f\x7f\x7f\x7f\x7f\x7f12{number}4\r")
        viewer.until(lambda text, n=number: f"12{n}4" in text.replace(" ", ""))
        viewer.keys("w" + "\x7f" * 40 + f"Sy-D5{number}q\r")
        viewer.until(lambda _, n=number: (runs.parent / "presets" / f"Sy-D5{n}q.toml").is_file())


def row_to(viewer: Terminal, name: str) -> None:
    """Move down until the row of this name is highlighted."""

    def highlighted() -> list[str]:
        return re.findall(r"▌ ?([^│\n]+)", viewer.screen.text)

    for _ in range(60):
        before = highlighted()
        if any(name in row for row in before):
            return
        viewer.keys("j")
        viewer.until(lambda _, before=before: len(highlighted()) == len(before) and highlighted() != before)
    raise AssertionError(f"no row {name}:\n{viewer.screen.text}")


def test_fields_of_vectors(viewer: Terminal) -> None:
    viewer.keys("5")
    viewer.until("V22")
    for number, _ in bursts():
        viewer.keys(f"\t{number + 1}21\t0.5{number % 10}\r")
        viewer.until(
            lambda text, n=number: f"[{n + 1}21" in text.replace(" ", "") and f"0.5{n % 10}".rstrip("0") in text
        )


def test_a_level(viewer: Terminal) -> None:
    viewer.keys("\x1b[Ac")
    viewer.until("baseline")
    viewer.keys("\x1b[C")
    for number, _ in bursts():
        viewer.keys(f"v0.{number % 9 + 1}3\r")
        viewer.until(lambda text, n=number: f"{n % 9 + 1}3%" in text.replace(" %", "%") or f".{n % 9 + 1}3" in text)


def test_the_window_shrinks_below_what_is_needed_while_a_prompt_is_open(viewer: Terminal, runs: Path) -> None:
    size = viewer.screen.width, viewer.screen.height
    viewer.keys("nbefore ")
    viewer.until("before")
    viewer.resize(38, 10)
    viewer.until("lsc needs")
    viewer.keys("2D")
    viewer.resize(*size)
    viewer.until(lambda text: "lsc needs" not in text and "before 2D" in text)
    viewer.keys(" 3S\r")
    viewer.until(lambda _: notes(runs)["notes"] == ["before 2D 3S"])


def test_a_question_is_not_answered_by_what_was_typed_before_it_stood_there(viewer: Terminal, runs: Path) -> None:
    for number, _ in bursts():
        viewer.keys("Dy" if number % 2 == 0 else "Dyyyy\r yk")
        viewer.until("y move")
        viewer.keys("\x1b")
        viewer.until(lambda text: "y move" not in text)
        viewer.keys(f"nDone {number}\r")
        viewer.until(lambda _, n=number: notes(runs)["notes"][n:] == [f"Done {n}"])
        assert (runs / RUN).is_dir()


def test_a_paste_without_a_field_does_nothing(viewer: Terminal, runs: Path) -> None:
    for number, text in bursts():
        viewer.keys(pasted(f"q{text}\rDy\nu:2"))
        viewer.keys(f"nafter {number}\r")
        viewer.until(lambda _, n=number: notes(runs)["notes"][n:] == [f"after {n}"])


def test_pasted_lines_become_one_note(viewer: Terminal, runs: Path) -> None:
    viewer.keys("n" + pasted("lr halved\nDyn: see log\r\nline\t3") + "\r")
    viewer.until(lambda _: notes(runs)["notes"] == ["lr halved Dyn: see log line 3"])
