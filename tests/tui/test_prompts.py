"""A prompt whose text is refused stays open with it, below a sentence; Esc leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
from tui_helpers import open_app, settle, text_of

from lsc_engine.runs.read.notes import read_notes
from lsc_tui.app import LscApp


def typed(app: LscApp) -> str | None:
    """The text in the open field, None where none is open."""
    field = app.lsc_screen.field
    return field.value if field is not None else None


@pytest.mark.parametrize("size", [(80, 24), (160, 48)], ids=str)
@pytest.mark.parametrize(
    ("keys", "text", "sentence"),
    [
        (["B"], "stat", 'no run has "stat"; did you mean "state"'),
        (["O"], "run stat", 'no column "stat"; did you mean "state"'),
        (["t"], "a,b", "tag 'a,b' is not allowed"),
        (["n"], "x" * 4001, "a note has 1 to 4000 characters"),
        (["e", "c"], "/no/such/folder/x.csv", "/no/such/folder is not there; nothing was written"),
        (["/"], "lr<fast", "lr< needs a number"),
        (["g", "enter", "v"], "fast", '"fast" is no level'),
        (["g", "enter", "w"], "my view", "view: "),
        (["4", "enter", "/"], "no such field", 'no field here is called "no such field"'),
        (["4", "enter", "w"], "a/b", "w: "),
        (["5", "tab"], "many", "many"),
        (["enter", "/"], "absent words", 'the log holds no "absent words"'),
    ],
    ids=lambda value: "".join(value)[:12],
)
async def test_a_refused_text_stays_in_its_field(
    runs: Path, size: tuple[int, int], keys: list[str], text: str, sentence: str
) -> None:
    async with open_app(runs, size) as (app, pilot):
        for key in keys:
            await pilot.press(key)
            await settle(app, pilot)
        assert typed(app) is not None
        app.lsc_screen.field.value = ""  # type: ignore[union-attr]
        app.lsc_screen.take_paste(text)
        await pilot.press("enter")
        await settle(app, pilot)
        assert typed(app) == text
        assert sentence in app.lsc_screen.message[0]
        assert sentence in " ".join(text_of(app).split())
        await pilot.press("x")
        assert typed(app) == f"{text}x"
        assert app.lsc_screen.message == ("", "")
        await pilot.press("escape")
        assert typed(app) is None
        assert app.lsc_screen.message == ("", "")
        assert all(read_notes(folder.parent) == ([], []) for folder in runs.rglob("status.json"))
