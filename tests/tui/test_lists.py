"""The list of runs: filters, flat and grouped lists, columns, what is hidden, and what comes back from the trash."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from threading import Event

import pytest
from samples import make_study
from tui_helpers import open_app, text_of

from lsc_engine.runs.folder import requests
from lsc_engine.runs.folder.process import this_process
from lsc_engine.runs.folder.status import read_status, write_status
from lsc_engine.runs.read import notes
from lsc_engine.runs.read.notes import read_notes
from lsc_engine.runs.read.run import list_runs
from lsc_tui.data.filters import Filter, settings_in
from lsc_tui.data.run_cache import TrackedRun
from lsc_tui.data.run_view import RunView
from lsc_tui.screens.runs.screen import RunsScreen
from lsc_tui.widgets.chart import waiting_words
from tests.waiting import pause_until

FIG9 = "lsc-2025/fig9"


@pytest.fixture(scope="module")
def views(made_runs: Path) -> list[RunView]:
    out = []
    for run in list_runs([made_runs]):
        tracked = TrackedRun(f"0:{run.id}", run, 0, False)
        tracked.look(short="abcd", place=0, with_trend=True)
        assert tracked.view is not None
        out.append(tracked.view)
    return out


def screen_of(app: object) -> RunsScreen:
    screen = app.lsc_screen  # type: ignore[attr-defined]
    assert isinstance(screen, RunsScreen)
    return screen


def ids(app: object, kind: str = "run") -> list[str]:
    return [row.views[0].id for row in screen_of(app).table.rows if row.kind == kind]


def lr_is(low: float, high: float, view: RunView) -> bool:
    return low <= float(view.config["optimizer"]["lr"]) < high


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("state:failed|stopped", lambda v: v.state in ("failed", "stopped")),
        ("mine | state:diverged", lambda v: v.study == "mine" or v.state == "diverged"),
        ("fig9|mlp", lambda v: "fig9" in v.id or "mlp" in v.id),
        ("!state:finished|running", lambda v: v.state not in ("finished", "running")),
        ("!fig9 !mine", lambda v: v.study == "etf-2024/mlp"),
        ("/^etf-2024|seed-2$/", lambda v: v.id.startswith("etf-2024") or v.id.endswith("seed-2")),
        ("label:/v21.*384/ seed:0", lambda v: v.variant == "V21-384" and v.seed == 0),
        ("optimizer.lr>=1e-5", lambda v: lr_is(1e-5, 1e9, v)),
        ("optimizer.lr!=0.001", lambda v: v.config["optimizer"]["lr"] != 0.001),
        ("target.system=V21", lambda v: v.config["target"].get("system") == "V21"),
        ('data.labels:"unique"', lambda v: v.config["data"]["labels"] == "unique"),
        ("batch_size>0", lambda v: True),
        ("seed!=0", lambda v: v.seed != 0),
        ('"fig9/V21-min" | ', lambda v: "fig9/V21-min" in v.id),
    ],
)  # fmt: skip
def test_a_filter_finds_what_it_says(views: list[RunView], text: str, wanted: object) -> None:
    chosen = Filter(text, settings=settings_in(views))
    assert not chosen.fault
    found = {view.id for view in views if chosen(view)}
    assert found == {view.id for view in views if wanted(view)}  # type: ignore[operator]
    assert found or "lr" in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fig9 sate:running", 'character 6, "sate:running": did you mean "state"'),
        ("mine | optimizer.lrr>1", 'character 8, "optimizer.lrr>1": did you mean "optimizer.lr"'),
        ("fig9 /a(/", "character 6, \"/a(/\": not a regular expression: missing ), unterminated subpattern at 2"),
        ('label:"n = 4', 'character 1, "label:"n": a " is missing'),
        ("loss<x", "loss< needs a number"),
        ("mine state:finishd", 'character 6, "state:finishd": did you mean "finished"'),
        ("mine !", 'character 6, "!": the word or condition that ! is to leave out is missing'),
        ("|", 'character 1, "|": | stands between words or conditions, and there are none'),
        ("state:running|loss<", "character 15"),
    ],
)  # fmt: skip
def test_a_filter_that_cannot_be_meant_says_where(views: list[RunView], text: str, words: str) -> None:
    chosen = Filter(text, settings=settings_in(views))
    assert words in chosen.fault
    assert not any(map(chosen, views))


async def test_a_fault_of_a_filter_is_shown_whole_at_80_columns(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        await pilot.press("slash", *"state:finished speed>fast")
        assert 'filter: character 16, "speed>fast": speed> needs a number' in " ".join(text_of(app).split())
        await pilot.press(*" state:x", "home", *"acc>fairly.high ")
        assert "Esc clears" in text_of(app)


async def test_the_state_is_shown_once_and_a_held_run_as_held(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        await pilot.press("O", "ctrl+u", *"state run loss where", "enter")
        assert text_of(app).splitlines()[2].split() == ["STATE", "RUN", "LOSS", "WHERE"]
        assert screen_of(app).order.sorts.count("state") == 1
        view = next(view for view in app.store.runs.values() if view.state == "queued")
        assert waiting_words(view) == "1st in line"
        assert waiting_words(replace(view, held=True)) == "held, Q lets it go"


async def test_filters_are_kept_and_brought_back(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        for text in ("mine", "etf", "sate:x"):
            await pilot.press("slash", *text, "enter")
        await pilot.press("escape", "escape")
    async with open_app(runs) as (app, pilot):
        await pilot.press("slash", "pageup", "pageup", "enter")
        assert screen_of(app).filter.text == "mine"
        await pilot.press("slash", *"optimizer.sch", "tab")
        assert screen_of(app).field.value == "optimizer.schedule:"  # type: ignore[union-attr]


@pytest.mark.parametrize("size", [(80, 24), (160, 48)], ids=lambda s: f"{s[0]}x{s[1]}")
async def test_one_list_over_all_studies_is_sorted_across_them(runs: Path, size: tuple[int, int]) -> None:
    async with open_app(runs, size) as (app, pilot):
        await pilot.press("a")
        assert not ids(app, "study")
        assert len(ids(app)) == 12
        while screen_of(app).order.sort != "acc":
            await pilot.press("full_stop")
        values = [app.store.runs[f"0:{name}"].last("train/accuracy") for name in ids(app)]
        known = [value for value in values if value is not None]
        assert known == sorted(known)
        assert values[: len(known)] == known, "those without a value come last"
        assert "↑TRAIN%" in text_of(app)
        await pilot.press("i")
        values = [app.store.runs[f"0:{name}"].last("train/accuracy") for name in ids(app)]
        assert values[: len(known)] == known[::-1]
        assert "↓TRAIN%" in text_of(app)
        assert "fig9 V21" in text_of(app)
    async with open_app(runs, size) as (app, pilot):
        assert screen_of(app).order.flat, "kept for the next time"


async def test_runs_are_grouped_by_any_setting(runs: Path) -> None:
    async with open_app(runs, (80, 40)) as (app, pilot):
        await pilot.press("B", *"target.method", "enter")
        groups = {row.title: {v.id for v in row.views} for row in screen_of(app).table.rows if row.kind == "study"}
        assert groups == {
            f"target.method = {name}": {v.id for v in app.store.runs.values() if v.config["target"]["method"] == name}
            for name in ("ce", "lsc")
        }
        assert "▾ target.method = lsc" in text_of(app)
        await pilot.press("g", "tab", "shift+tab")
        assert not screen_of(app).table.rows[0].closed, "Tab goes to another pane, and here is one alone"
        await pilot.press("left")
        assert screen_of(app).table.rows[0].closed
        await pilot.press("B", *"target.metod", "enter")
        assert 'did you mean "target.method"' in screen_of(app).message[0]
        await pilot.press("escape", "B", "backspace", "enter")
        assert len(ids(app, "study")) == 3


async def test_columns_are_chosen_ordered_pinned_and_kept(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        await pilot.press(
            "O", "ctrl+u", *"run loss | optimizer.lr train.batch_size model.dim data.classes note", "enter"
        )
        head = text_of(app).splitlines()[2]
        assert head.split()[:5] == ["STATE", "RUN", "LOSS", "LR", "BATCH_SIZE"]
        line = next(text for text in text_of(app).splitlines() if "V21" in text)
        view = next(v for v in app.store.runs.values() if v.variant == "V21-384")
        assert str(view.config["train"]["batch_size"]) in line.split()
        await pilot.press(")", ")")
        assert text_of(app).splitlines()[2].split()[:4] == ["STATE", "RUN", "LOSS", "DIM"]
        await pilot.press("(", "(")
        while screen_of(app).order.sort != "train.batch_size":
            await pilot.press("full_stop")
        assert "BATCH_SIZE↓" in text_of(app).splitlines()[2] or "BATCH_SIZE" in text_of(app).splitlines()[2]
        await pilot.press("O", "ctrl+u", *"run optimizer.lrr", "enter")
        assert 'no column "optimizer.lrr"; did you mean "optimizer.lr"' in screen_of(app).message[0]
    async with open_app(runs) as (app, pilot):
        assert "BATCH_SIZE" in text_of(app).splitlines()[2], "kept for the next time"
        await pilot.press("O", "ctrl+u", "enter")
        assert "TREND" in text_of(app).splitlines()[2]


async def test_hidden_runs_stay_on_disk_and_are_shown_again(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        screen_of(app).table.go_to_study("mine")
        await pilot.press("H")
        assert "mine" not in {view.study for row in screen_of(app).table.rows for view in row.views}
        assert "3 hidden" in text_of(app)
        assert (runs / "mine/A-384/seed-0/status.json").exists()
    async with open_app(runs) as (app, pilot):
        assert len(ids(app, "study")) == 2, "kept for the next time"
        await pilot.press("A")
        screen_of(app).table.go_to_study("mine")
        await pilot.press("H", "A")
        assert len(ids(app, "study")) == 3
        assert "hidden" not in text_of(app).splitlines()[1]
        await pilot.press("a", "slash", *"mine", "enter", "H", "H", "H")
        assert "no run matches" in text_of(app)
        await pilot.press("H", "D", "y")
        assert len(app.store.runs) == 12, "there is nothing that a key could hit"


async def test_a_deleted_run_comes_back_from_the_trash(runs: Path) -> None:
    run = f"{FIG9}/V21-384/seed-0"
    async with open_app(runs) as (app, pilot):
        await pilot.press("slash", *run, "enter", "j")
        before = sorted(path.name for path in (runs / run).iterdir())
        await pilot.press("D")
        await pause_until(pilot, lambda: "U brings it back" in text_of(app))
        await pilot.press("y")
        await pause_until(pilot, lambda: not (runs / run).exists() and f"0:{run}" not in app.store.runs)
        await pilot.press("U")
        await pause_until(pilot, lambda: "1 deleted run" in text_of(app))
        await pilot.press(*"v21", "enter")
        await pause_until(pilot, lambda: f"0:{run}" in app.store.runs)
        assert sorted(path.name for path in (runs / run).iterdir()) == before
        assert not notes.trashed(runs)
        await pilot.press("U")
        await pause_until(pilot, lambda: "nothing lies in the trash" in text_of(app))


async def test_a_deleted_study_comes_back_in_one_step(runs: Path) -> None:
    async with open_app(runs, size=(160, 48)) as (app, pilot):
        table = screen_of(app).table
        table.go_to_study("mine")
        await pilot.press("D")
        await pause_until(pilot, lambda: "U brings it back" in text_of(app))
        await pilot.press("y")
        await pause_until(pilot, lambda: not any(view.study == "mine" for view in app.store.runs.values()))
        await pilot.pause()
        assert table.current is not None, "another row is highlighted"
        assert screen_of(app).message[0] == "moved to .trash: 3 runs of mine"
        await pilot.press("U")
        await pause_until(pilot, lambda: "mine, 3 runs" in text_of(app) and " 3 deleted runs " in text_of(app))
        await pilot.press("enter")
        await pause_until(pilot, lambda: sum(view.study == "mine" for view in app.store.runs.values()) == 3)
        assert not notes.trashed(runs)


async def test_the_question_before_a_kill_counts_the_runs_that_wait_for_its_process(runs: Path) -> None:
    moving, waiting = (runs / f"lsc-2025/fig9/{name}" for name in ("A-384/seed-1", "CE-384/seed-0"))
    for folder in (moving, waiting):
        write_status(folder, replace(read_status(folder), **asdict(this_process())))
    async with open_app(runs, size=(160, 48)) as (app, pilot):
        await pilot.press("/", *"state:running label:A", "enter")
        await pilot.press("G", "S")
        await pause_until(pilot, lambda: "kill now, leaving 1 queued run waiting" in text_of(app))
        await pilot.press("escape")


async def test_to_resume_several_runs_is_said_to_start_them_all_at_once(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = list[str](), Event()

    def resume(view: RunView, words: object) -> None:
        go_on.wait(60)
        begun.append(view.id)

    monkeypatch.setattr("lsc_tui.screens.run_screen.resume", resume)
    for seed in (0, 1):
        folder = runs / f"lsc-2025/fig9/A-384/seed-{seed}"
        write_status(folder, replace(read_status(folder), state="stopped"))
    async with open_app(runs, size=(160, 48)) as (app, pilot):
        await pilot.press("/", *"state:stopped", "enter", "g", "R")
        await pause_until(pilot, lambda: "2 runs of fig9, each in a process of its own, all at once?" in text_of(app))
        await pilot.press("y")
        assert screen_of(app).message[0] == "resuming 2 runs of fig9 …"
        go_on.set()
        await pause_until(pilot, lambda: screen_of(app).message[0] == "resumed 2 runs of fig9")
        assert len(begun) == 2


async def test_what_a_study_waits_for_is_what_its_run_at_work_does(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    make_study(root, [("A-384", 0, "starting", 0, 1.0), ("A-384", 1, "queued", 0, 1.0)], name="one")
    async with open_app(root) as (app, pilot):
        await pilot.press("g")
        await pause_until(pilot, lambda: "no curve yet: reading data, compiling the model" in text_of(app))


async def test_a_question_on_a_group_counts_its_studies(runs: Path) -> None:
    async with open_app(runs, size=(160, 48)) as (app, pilot):
        screen = screen_of(app)
        screen.order.group = "state"
        await pilot.press("/", *"state:finished", "enter")
        await pilot.press("g", "D")
        await pause_until(pilot, lambda: "U brings it back" in text_of(app))
        views = screen.table.current.views  # type: ignore[union-attr]
        studies = {view.study for view in views}
        assert len(studies) > 1
        assert f"delete {len(views)} runs of {len(studies)} studies" in text_of(app)


def test_the_trash_overwrites_no_run(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    rows = [("A-384", 0, "finished", 20, 0.3)]
    place = notes.move_to_trash(root, "one/A-384/seed-0", make_study(root, rows, name="one")["one/A-384/seed-0"])
    make_study(root, rows, name="one")
    assert notes.trashed(root) == [("one/A-384/seed-0", place)]
    with pytest.raises(notes.UsageError, match="is there again, and is not overwritten"):
        notes.restore(root, "one/A-384/seed-0", place)
    with pytest.raises(notes.UsageError, match="does not lie in"):
        notes.restore(root, "two/A-384/seed-0", root / "one/A-384/seed-0")
    assert place.is_dir()


async def test_notes_are_changed_and_seen_at_80_columns(runs: Path) -> None:
    run = "mine/A-384/seed-0"
    async with open_app(runs) as (app, pilot):
        await pilot.press("slash", *run, "enter", "j")

        def texts() -> list[str]:
            return [note.text for note in read_notes(runs / run)[0]]

        for keys, wanted in (
            (("n", *"first", "enter"), ["first"]),
            (("n", *"odd", "enter"), ["first", "odd"]),
            (("n", "pageup", "D", "y", "enter"), ["first", "oddDy"]),
            (("n", "pageup", "pagedown", *"new", "enter"), ["first", "oddDy", "new"]),
            (("n", "pageup", "ctrl+u", "enter"), ["first", "oddDy"]),
            (("n", "pageup", "pageup", *"est", "enter"), ["firstest", "oddDy"]),
            (("n", "pageup", "pageup", "ctrl+u", "enter"), ["oddDy"]),
        ):
            await pilot.press(*keys)
            await pause_until(pilot, lambda wanted=wanted: texts() == wanted)  # type: ignore[misc]
            await pause_until(pilot, lambda: app.store.runs[f"0:{run}"].notes[-1:] == (texts()[-1],))
        await pilot.press("t", *"keep", "enter")
        await pause_until(pilot, lambda: app.store.runs[f"0:{run}"].tags == ("keep",))
        await pilot.pause()
        assert " #k" in text_of(app)
        await pilot.press("t", *"keep", "enter")
        await pause_until(pilot, lambda: app.store.runs[f"0:{run}"].tags == ())


async def test_the_queue_is_shown_in_order_moved_and_held(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    rows = [("A-384", seed, "queued", 0, 1.0) for seed in range(3)] + [("V21-384", 0, "finished", 20, 0.3)]
    folders = make_study(root, rows, name="one")
    async with open_app(root) as (app, pilot):

        def queue() -> list[str]:
            rows = screen_of(app).table.rows
            return [row.views[0].id[-1] for row in rows if row.kind == "run" and row.views[0].state == "queued"]

        await pilot.press("G", "K")
        await pause_until(pilot, lambda: queue() == ["0", "2", "1"])
        assert text_of(app).splitlines()[4].startswith("  ✓ finished"), "what waits is the end of its study"
        await pilot.press("J")
        await pause_until(pilot, lambda: queue() == ["0", "1", "2"])
        await pilot.press("a")
        while screen_of(app).order.sort != "where":
            await pilot.press("full_stop")
        assert queue() == ["0", "1", "2"]
        assert [text in text_of(app) for text in ("1st", "2nd", "3rd")] == [True] * 3
        for keys, wanted in (("GkK", "021"), ("K", "201"), ("J", "021")):
            await pilot.press(*keys)
            await pause_until(pilot, lambda wanted=wanted: "".join(queue()) == wanted)  # type: ignore[misc]
        assert [requests.turn(folders[f"one/A-384/seed-{i}"]) for i in range(3)] == [-3, -1, -2]
        await pilot.press("g", "K")
        await pause_until(pilot, lambda: "first in its queue already" in screen_of(app).message[0])
        await pilot.press("Q")
        await pause_until(pilot, lambda: "held" in text_of(app).splitlines()[3])
        assert requests.pending(folders["one/A-384/seed-0"]) == {"hold"}
        await pilot.press("Q")
        await pause_until(pilot, lambda: "1st" in text_of(app).splitlines()[3])
        assert not requests.pending(folders["one/A-384/seed-0"])
        await pilot.press("G", "Q")
        assert "it is finished" in screen_of(app).message[0]
        # Before the list follows: as the folders are by then.
        app.poller.stop()
        await pilot.press("g", "down", "down")
        assert queue() == ["0", "2", "1"]
        expected = ("before one A shuffled n=384 s2", "before one A shuffled n=384 s0", "first", "after")
        for key, words in zip("KKKJ", expected, strict=True):
            await pilot.press(key)
            await pause_until(pilot, lambda words=words: words in screen_of(app).message[0])  # type: ignore[misc]
        assert [requests.turn(folders[f"one/A-384/seed-{i}"]) for i in range(3)] == [-3, -2, -1]
        for held in ({"hold"}, set()):
            await pilot.press("Q")
            await app.workers.wait_for_complete()
            assert requests.pending(folders["one/A-384/seed-1"]) == held
