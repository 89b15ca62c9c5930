"""Compare: what is read, what the keys do to it, its files; asserted on state, then on text."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparable import PRESET, STUDY, make_comparable
from samples import fix
from textual.pilot import Pilot
from tui_helpers import make_app, open_app, settle, text_of

from lsc_engine.analysis.compare import TrivialBaseline, compare
from lsc_engine.analysis.saved_views import read_view
from lsc_engine.charts.chart import Series, draw
from lsc_engine.cli.results import study_text
from lsc_engine.runs.folder.writer import RunWriter, create_run
from lsc_engine.runs.read.run import open_run
from lsc_engine.studies.plan import plan_study
from lsc_tui.app import LscApp
from lsc_tui.screens.compare.comparison import Compared, Reader, Request
from lsc_tui.screens.compare.panels import csv_text, latex_text, verdict_lines
from lsc_tui.screens.compare.screen import CompareScreen
from lsc_tui.widgets.chart import Look
from tests.waiting import pause_until

SIZES = [(80, 24), (160, 48)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study, made once."""
    folder = tmp_path_factory.mktemp("comparable")
    make_comparable(folder / "runs", folder / "fig1a.toml")
    return folder / "runs"


@pytest.fixture
def study(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may change; files are written beside it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made, tmp_path / "runs")
    return tmp_path / "runs"


@asynccontextmanager
async def comparing(
    folder: Path, size: tuple[int, int] = (80, 24), keys: tuple[str, ...] = ("g", "enter")
) -> AsyncIterator[tuple[LscApp, Pilot[Any], CompareScreen]]:
    """Compare, opened from Runs by these keys."""
    app = make_app(folder)
    async with app.run_test(size=size) as pilot:
        await settle(app, pilot)
        await pilot.press(*keys)
        await settle(app, pilot)
        screen = app.lsc_screen
        assert isinstance(screen, CompareScreen)
        yield app, pilot, screen


def shown(screen: CompareScreen) -> Compared:
    assert screen.found is not None
    return screen.found


async def test_enter_on_a_study_compares_all_of_it(study: Path) -> None:
    async with comparing(study) as (app, _, screen):
        found = shown(screen)
        assert app.current_mode == "compare_tab"
        assert [found.letters[row.key] + row.label for row in found.rows] == [
            "aA n=384", "bCE", "cV21 n=384", "dV21 n_min",
        ]  # fmt: skip
        assert found.base.label == "A n=384"
        assert sum(len(row.runs) for row in found.rows) == 12
        lines = text_of(app).splitlines()
        assert len(lines) == 24
        assert max(map(len, lines)) <= 80
        assert lines[1].split() == [STUDY, "12", "runs:", "10", "done,", "1", "diverged,", "1", "running"]
        assert 'claim "V21 is fastest"' in lines[2]
        assert "spectrum 5000 unique" in lines[2].replace(" ", " ")
        assert lines[-1] == ("p pin *  v level  m metric  x axis  y log  b seeds  d settings  e export  ? help")


async def test_the_table_tells_levels_speed_ups_and_other_losses(study: Path) -> None:
    async with comparing(study) as (app, _, screen):
        found = shown(screen)
        a, ce, v21, small = found.rows
        accuracy = v21.levels[1]
        assert (accuracy.metric, accuracy.level) == ("train/accuracy", 0.9)
        # (e p / whole)^2 * .99 >= .9 at e = whole / p * sqrt(.9 / .99), at the next whole epoch.
        expected = [math.ceil(50 / p * math.sqrt(0.9 / 0.99)) for p in (0.96, 1.0, 1.04)]
        assert [accuracy.by_seed[seed].at("epochs") for seed in range(3)] == expected
        text = text_of(app)
        row = next(line for line in text.splitlines() if line[1:4] == " c ")
        assert "V21" in row
        assert "×2.0 (2.0-2.0)" in row
        assert "other loss" in next(line for line in text.splitlines() if line[1:4] == " b ")
        assert ce.levels[2].faster["epochs"].note == "other loss"
        assert small.states == {0: "finished", 1: "diverged", 2: "finished"}
        assert "2/3" in next(line for line in text.splitlines() if line[1:4] == " d ")
        assert a.levels[0].faster["epochs"].note == "baseline"


async def test_the_verdict_is_told_by_accuracy_and_by_loss(study: Path) -> None:
    async with comparing(study) as (app, pilot, screen):
        text = text_of(app)
        assert "verdict so far" in text
        assert "levels 90% and .40 fixed in the preset" in text
        accuracy = next(line for line in text.splitlines() if line.startswith("accuracy"))
        assert "faster than a A n=384:" in accuracy
        assert "c holds 3 of 3" in accuracy
        loss = next(line for line in text.splitlines() if line.startswith("loss "))
        assert "b other loss" in loss
        assert "c holds 3 of 3" in loss
        assert "d: seed 1 diverged, counts as not reached" in _unequal(screen)
        assert "b: 2 of 3 seeds, 1 running" in _unequal(screen)
        fix(study / STUDY / "CE" / "seed-2", state="finished")
        app.poller.rescan()
        await pause_until(pilot, lambda: "running" not in str([row.states for row in shown(screen).rows]))
        await settle(app, pilot)
        assert "─ verdict ─" in text_of(app)
        found = shown(screen)
        found.base.trivial = TrivialBaseline(1.0, found.base.last["train/loss"][0])
        assert "a is stuck at its trivial loss, " in str(verdict_lines(found, 200))


def _unequal(screen: CompareScreen) -> list[str]:
    from lsc_tui.screens.compare.comparison import unequal

    return unequal(shown(screen))


async def test_p_pins_another_baseline_and_gives_the_old_one_back(study: Path) -> None:
    async with comparing(study) as (app, pilot, screen):
        await pilot.press("down", "down", "p")
        await settle(app, pilot)
        found = shown(screen)
        assert found.base.label == "V21 n=384"
        assert found.rows[0].levels[1].faster["epochs"].ratio == pytest.approx(0.5, abs=0.02)
        assert found.rows[0].label == "A n=384"
        await pilot.press("p")
        await settle(app, pilot)
        assert shown(screen).base.label == "A n=384"


async def test_v_sets_a_level_at_the_cursor(study: Path) -> None:
    async with comparing(study) as (app, pilot, screen):
        await pilot.press("right")
        assert screen.look.cursor == pytest.approx(50, abs=1)
        await pilot.press("v", "enter")
        await settle(app, pilot)
        found = shown(screen)
        assert found.set_here
        assert screen.levels is not None
        (level,) = screen.levels["train/accuracy"]
        assert level == pytest.approx(0.99 * 0.25, abs=0.02)
        assert screen.levels["train/loss"] == [0.8, 0.4]
        assert "set here" in text_of(app)
        for typed, level in (("90", 0.9), ("0.62", 0.62), ("7%", 0.07)):
            await pilot.press("v", *typed, "enter")
            await settle(app, pilot)
            assert screen.levels == {"train/accuracy": [pytest.approx(level)], "train/loss": [0.8, 0.4]}
        await pilot.press("v", *"-3D", "enter")
        assert 'v: "-3D" is no level; write 90 or 0.9' in text_of(app)
        await pilot.press("escape", "0", "v", "enter")
        await settle(app, pilot)
        assert screen.levels is None
        assert not shown(screen).set_here


async def test_the_readout_tells_every_variant_at_the_cursor(study: Path) -> None:
    async with comparing(study) as (app, pilot, screen):
        await pilot.press("right")
        line = next(line for line in text_of(app).splitlines() if line.startswith("epoch 5") and "┃" in line)
        assert "a 2" in line
        assert "±" in line
        mean, _, count = shown(screen).curves["train/accuracy"][shown(screen).rows[0].key].at(screen.look.cursor or 0)
        assert count == 3
        assert f"a {100 * mean:.1f} ±" in line


async def test_m_swaps_to_the_loss_of_one_kind_only(study: Path) -> None:
    async with comparing(study) as (app, pilot, screen):
        await pilot.press("m")
        await pilot.pause()
        assert screen.metric == "train/loss"
        assert [row.label for row in screen.drawn_rows(shown(screen), "train/loss")] == [
            "V21 n=384", "V21 n_min", "A n=384",
        ]  # fmt: skip
        assert "train/loss · cosine · log y" in text_of(app)
        assert "b other loss" in text_of(app)


async def test_axis_seeds_and_settings_keys(study: Path) -> None:
    async with comparing(study) as (app, pilot, screen):
        await pilot.press("x")
        await settle(app, pilot)
        assert shown(screen).unit == "steps"
        assert shown(screen).curves["train/accuracy"][shown(screen).rows[0].key].x[-1] == 2000
        await pilot.press("b")
        await pilot.pause()
        assert not screen.band
        assert "every seed" in text_of(app)
        await pilot.press("d")
        await pause_until(pilot, lambda: "target.system" in text_of(app))
        await pilot.press("end")
        await pilot.pause()
        assert "train.batch_size" in text_of(app)
        await pilot.press("escape")
        await pause_until(pilot, lambda: "train/accuracy %" in text_of(app))
        assert app.current_mode == "compare_tab"
        await pilot.press("escape")
        await pause_until(pilot, lambda: app.current_mode == "runs")


async def test_marked_runs_keep_their_letters_and_one_alone_says_what_is_missing(study: Path) -> None:
    async with comparing(study, keys=("3",)) as (app, pilot, screen):
        assert "Nothing marked. 1 Runs: space marks runs, Enter on a study takes all of it." in text_of(app)
        await pilot.press("p")
        assert "p: nothing is compared yet" in text_of(app)
        await pilot.press("1", "g", "down", "space", "c")
        await settle(app, pilot)
        found = shown(screen)
        assert list(found.letters.values()) == ["a"]
        assert "mark a second run, or p here to pin this one" in text_of(app)
        await pilot.press("1", "down", "down", "down", "space", "c")
        await settle(app, pilot)
        marked = dict(app.store.marked)
        assert len(shown(screen).rows) == 2
        assert set(shown(screen).letters.values()) == set(marked.values())


async def test_what_cannot_be_compared_is_said(study: Path, tmp_path: Path) -> None:
    make_comparable(study, tmp_path / "other.toml", name="other", classes=3000)
    keys = ("g", "down", "space", "G", "space", "c")
    async with comparing(study, keys=keys) as (app, _, screen):
        found = shown(screen)
        assert len({row.runs[0].study for row in found.rows}) == 2
        said = [text for text in _unequal(screen) if "train on different data" in text]
        assert said
        assert said[0].endswith("classes): no speed-up")
        assert {"5000", "3000"} <= set(re.findall(r"\d+", said[0]))
        assert "other data" in text_of(app)


async def test_mixed_devices_and_levels_out_of_reach_are_said(study: Path) -> None:
    for seed in range(3):
        fix(study / STUDY / "V21" / f"seed-{seed}", state="finished", device="NVIDIA H100 (cuda:0)")
    async with comparing(study, (160, 48)) as (app, pilot, screen):
        row = next(line for line in text_of(app).splitlines() if " c V21" in line)
        assert "other device" in row
        screen.levels = {"train/accuracy": [0.995]}
        screen.show()
        await settle(app, pilot)
        assert "no run reaches 99.5 %: v sets another" in _unequal(screen)


async def test_new_points_and_new_runs_of_the_study_come_in(study: Path) -> None:
    async with comparing(study) as (_, pilot, screen):
        folder = study / STUDY / "CE" / "seed-2"
        with (folder / "metrics.jsonl").open("a") as file:
            for epoch in range(61, 81):
                line = {"step": epoch * 20, "epoch": epoch, "time": epoch / 4, "attempt": 1, "train/accuracy": 0.99}
                file.write(json.dumps(line) + "\n")
        fix(folder, step=1600)
        key = f"{STUDY}/CE"
        await pause_until(pilot, lambda: shown(screen).curves["train/accuracy"][key].seeds[2].x[-1] >= 80)
        assert shown(screen).curves["train/accuracy"][key].seeds[2].x[-1] == 80


async def test_a_view_is_saved_and_opened_again(study: Path) -> None:
    async with comparing(study) as (app, pilot, screen):
        await pilot.press("down", "p", "x", "m")
        await settle(app, pilot)
        await pilot.press("w", "enter")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert "saved view ~/runs/.views/fig1a.toml" in text_of(app)
        view = read_view(study / ".views" / "fig1a.toml")
        assert (view.study, len(view.runs), view.axis, view.metric) == (STUDY, 12, "step", "train/loss")
        assert view.baseline == f"{STUDY}/CE"
        await pilot.press("w", "enter")
        await pause_until(pilot, lambda: "the view fig1a is there already" in text_of(app))
        await pilot.pause()
        await pilot.press("escape", "w", *"-2", "enter")
        await app.workers.wait_for_complete()
        assert {path.stem for path in (study / ".views").iterdir()} == {"fig1a", "fig1a-2"}
    async with comparing(study, keys=("3",)) as (app, pilot, screen):
        assert "W opens saved views" in " ".join(text_of(app).split())
        await pilot.press("1", "W")
        await pause_until(pilot, lambda: "2 saved views" in text_of(app))
        await pilot.press("enter")
        await pause_until(pilot, lambda: screen.found is not None)
        await settle(app, pilot)
        assert shown(screen).base.label == "CE"
        assert screen.metric == "train/loss"
        assert len(shown(screen).rows) == 4


async def test_tables_and_figures_are_written_where_the_viewer_runs(study: Path, tmp_path: Path) -> None:
    async with comparing(study) as (app, pilot, screen):
        widths = {}
        for keys, name in (("c", "fig1a.csv"), ("l", "fig1a.tex"), ("s2", "fig1a.svg"), ("s1", "fig1a.svg")):
            await pilot.press("e")
            await pilot.pause()
            assert "write fig1a as   c CSV  l LaTeX  s SVG  f PDF  n PNG  r report  Esc no" in text_of(app)
            await pilot.press(*keys, "enter")
            await pilot.pause()
            if keys == "s1":
                assert "fig1a.svg is there already" in text_of(app)
                await pilot.press("y")
            await app.workers.wait_for_complete()
            await pilot.pause()
            assert f"wrote ~/{name}" in text_of(app)
            assert (tmp_path / name).stat().st_size > 100
            if name.endswith("svg"):
                points = re.search(r'width="([0-9.]+)pt"', (tmp_path / name).read_text())
                assert points is not None
                widths[keys] = float(points[1]) / 72
        assert widths == {"s1": pytest.approx(3.3), "s2": pytest.approx(6.9)}
        rows = list(csv.DictReader(io.StringIO((tmp_path / "fig1a.csv").read_text())))
        assert [row["label"] for row in rows] == ["A n=384", "CE", "V21 n=384", "V21 n_min"]
        assert rows[2]["train/accuracy 0.9 faster"] == f"{shown(screen).rows[2].levels[1].faster['epochs'].ratio:.6g}"
        assert rows[1]["train/loss 0.4 note"] == "other loss"
        latex = (tmp_path / "fig1a.tex").read_text()
        assert latex.count(r"\\") == 5
        assert r"$\times$2.0" in latex
        assert latex == latex_text(shown(screen), "train/accuracy")
        assert (tmp_path / "fig1a.csv").read_text() == csv_text(shown(screen))
        svg = (tmp_path / "fig1a.svg").read_text()
        assert "V21 n=384 (3 seeds)" in svg
        assert "train/accuracy (%)" in svg


async def test_the_report_of_the_study_is_written_by_the_engine(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    async with comparing(study) as (app, pilot, _):
        await pilot.press("e")
        await pilot.pause()
        await pilot.press("r", "enter")
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert "wrote ~/fig1a-report/report.md; E opens it" in text_of(app)
        await pilot.press("E")
        await pilot.pause()
        assert "r report  R edit  t TOML" in text_of(app)
        await pilot.press("escape")
        page = (tmp_path / "fig1a-report" / "report.md").read_text()
        await pilot.press("e")
        await pilot.pause()
        await pilot.press("r", "enter")
        await pilot.pause()
        assert "~/fig1a-report is there already.   y replace it" in text_of(app)
        await pilot.press("escape")
        assert "| V21 n=384 is faster than A n=384 | V21 n=384 faster than A n=384 | holds, 3 of 3 seeds |" in page


async def test_enter_opens_the_run_at_work_in_monitor(study: Path) -> None:
    async with comparing(study) as (app, pilot, _):
        await pilot.press("down", "enter")
        await pause_until(pilot, lambda: app.current_mode == "monitor")
        assert app.store.watched == f"0:{STUDY}/CE/seed-2"


async def test_hostile_names_reach_the_screen_without_escape_sequences(study: Path) -> None:
    for path in study.rglob("preset.toml"):
        path.write_text(path.read_text().replace('label = "V21 n=384"', 'label = "\\u001b[31mred\\u0007"').replace(
            "V21 is fastest", "\\u001b]0;x\\u0007claim"))  # fmt: skip
    async with comparing(study, (160, 48)) as (app, _, screen):
        assert "\x1b" not in text_of(app)
        assert "\x1b" not in latex_text(shown(screen), "train/accuracy")
        assert "red" in text_of(app)


@pytest.mark.parametrize("theme", ["lsc-dark", "lsc-light"])
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_compare_looks(study: Path, snap_compare: Any, size: tuple[int, int], theme: str) -> None:
    app = make_app(study, theme=theme)

    async def before(pilot: Pilot[Any]) -> None:
        await settle(app, pilot)
        await pilot.press("g", "enter")
        await settle(app, pilot)
        await pilot.press("down", "down", "right")
        await settle(app, pilot)

    assert snap_compare(app, terminal_size=size, run_before=before)


async def test_a_kind_without_a_level_is_named_and_long_verdicts_go_on_in_the_next_line(study: Path) -> None:
    async with comparing(study) as (_, _, screen):
        found = shown(screen)
        few = Request(found.request.views, levels=(("train/accuracy", (0.9,)),))
        lines = ["".join(t for t, _ in line).rstrip() for line in verdict_lines(Reader().read(few, {}), 80)]
        assert any(line.startswith("loss      no level is set for it: m shows it") for line in lines)
        narrow = ["".join(t for t, _ in line).rstrip() for line in verdict_lines(found, 60)]
        assert all(len(line) <= 60 for line in narrow)
        outcome = " ".join(narrow)
        for letter in "bcd":
            assert outcome.count(f" {letter} ") >= 2, narrow


async def test_what_was_tried_and_what_lies_behind_a_row(study: Path) -> None:
    rates = (1e-4, 3e-4, 1e-3)
    for rate in rates:
        folder = study / f"{STUDY}.tune" / f"V21+lr={rate:g}" / "seed-9"
        folder.mkdir(parents=True)
        text = (study / STUDY / "V21" / "seed-0" / "preset.toml").read_text()
        (folder / "preset.toml").write_text(re.sub(r"^lr = .*$", f"lr = {rate!r}", text, flags=re.MULTILINE))
    source = study / STUDY / "V21" / "seed-0" / "source.json"
    source.write_text(json.dumps(json.loads(source.read_text()) | {"parameters": {"model": 8_930_000, "head": 0}}))
    async with comparing(study, size=(160, 48), keys=("g", "enter")) as (app, _, screen):
        row = next(row for row in shown(screen).rows if row.label == "V21 n=384")
        one = shown(screen).details[row.key]
        assert one.parameters == 8_930_000
        assert one.sure_below == pytest.approx(1 - math.cos(math.acos(2 / 3) / 2))
        text = text_of(app)
        assert "lr: best of 1e-4 3e-4 1e-3, tried for 1 of 4" in text
        assert "8.93 M" in text
        assert "near in use" in text


@pytest.mark.parametrize("log_x", [False, True])
def test_zooming_out_and_panning_stop_at_the_whole_curve(log_x: bool) -> None:
    x = np.arange(1.0, 1001.0)
    look = Look(log_x=log_x)

    def keys(*words: str) -> tuple[float | None, float | None]:
        acts = {"+": (look.zoom, 0.5), "-": (look.zoom, 2.0), "[": (look.pan, -0.25), "]": (look.pan, 0.25)}
        for word in words:
            picture = draw([Series(x, x)], 60, 12, look.view("train/loss"))
            act, by = acts.get(word, (look.move, 1))
            act(picture, by)
        return look.x0, look.x1

    for moves in ("→+-", "→+--", "→→→++---", "+]]-[--", "→→+[[[[----", "++]]]]]]]]]]-----"):
        assert keys(*moves) == (None, None), moves
        look.whole()
    left = keys("+", *"[" * 20)[0]
    assert left is not None
    assert left >= (1.0 if log_x else 0.0)


# --- charts, panes ----------------------------------------------------------------------------------------------------


async def test_m_goes_through_the_kinds_of_loss_and_back(study: Path) -> None:
    async with comparing(study) as (app, pilot, screen):
        seen = []
        for key in ("m", "m", "M", "M"):
            drawn = {row.group for row in screen.drawn_rows(shown(screen), screen.metric)}
            seen.append((screen.metric, len(drawn)))
            await pilot.press(key)
            await settle(app, pilot)
        assert seen == [("train/accuracy", 2), ("train/loss", 1), ("train/loss", 1), ("train/loss", 1)]
        await pilot.press("m", "m")
        await settle(app, pilot)
        assert "train/loss · cross-entropy" in text_of(app)


async def test_the_column_of_accuracies_is_named_and_stays(study: Path) -> None:
    for metrics in study.glob(f"{STUDY}/*/seed-*/metrics.jsonl"):
        with metrics.open("a") as file:
            file.write(json.dumps({"step": 2001, "epoch": 100.05, "time": 26.0, "val/accuracy": 0.25}) + "\n")
    async with comparing(study) as (app, pilot, screen):
        assert "TRAIN%" in text_of(app)
        for metric in ("train/loss", "train/loss"):
            await pilot.press("m")
            await settle(app, pilot)
            assert screen.metric == metric
            assert "TRAIN%" in text_of(app)
        await pilot.press("m")
        await settle(app, pilot)
        assert "accuracy: val/accuracy, in the column too" in text_of(app)
        assert "VAL%" in text_of(app)
        assert "25.0" in text_of(app)


@pytest.mark.parametrize("size", [(80, 24), (130, 37), (160, 48)], ids=lambda s: f"{s[0]}x{s[1]}")
async def test_the_chart_keeps_its_rows_and_other_panes_scroll(
    study: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    make_comparable(study, tmp_path / "more.toml", name="vs/more", classes=4000)
    make_comparable(study, tmp_path / "most.toml", name="vs/most", classes=3000)
    async with open_app(study, size) as (app, pilot):
        app.store.compared = list(app.store.runs)
        app.go("compare_tab")
        await settle(app, pilot)
        screen = app.lsc_screen
        assert isinstance(screen, CompareScreen)
        assert len(shown(screen).rows) == 12
        assert screen.query_one("#charts").size.height >= 14 * size[1] // 48
        highlighted = screen.highlighted
        assert size[0] == 160 or "Tab" in text_of(app)
        await pilot.press("tab", "down", "down")
        await settle(app, pilot)
        assert screen.highlighted == highlighted
        assert (screen.tops[0] == 2) == (size != (160, 48)), "all of it fits there"
        await pilot.press("escape", "down")
        await settle(app, pilot)
        assert screen.highlighted != highlighted
        await pilot.press("z")
        await settle(app, pilot)
        legend = text_of(app)
        assert all(f"{letter} " in legend for letter in shown(screen).letters.values())


async def test_a_run_without_a_finite_loss_has_words_for_a_curve(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(PRESET)
    for run in plan_study(tmp_path / "p.toml", name="s", variants=["A", "CE"]).runs:
        create_run(tmp_path / "runs" / run.id, run.config, {})
        writer = RunWriter.open(tmp_path / "runs" / run.id, device="cpu", owner="ada", total_steps=2000, echo=False)
        writer.metrics(20, 1.0, 0.25, {"train/loss": math.nan if run.config.variant == "CE" else 0.5})
        writer.finish("diverged", 3)
    async with open_app(tmp_path / "runs") as (app, pilot):
        await pilot.press("g", "enter")
        await settle(app, pilot)
        await pilot.press("m")
        await pause_until(pilot, lambda: "no finite value of train/loss" in text_of(app))
    text = study_text("s", compare([open_run(f"s/{name}/seed-0", [tmp_path / "runs"]) for name in ("A", "CE")]))
    assert re.search(r"CE +0 of 1 +-$", text, re.MULTILINE)
    assert "no finite value" in text
