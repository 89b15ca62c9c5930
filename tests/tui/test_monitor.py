"""Monitor: which run is shown, curves, readout, log, settings; asserted on state, then on text."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from samples import make_study
from tui_helpers import open_app, settle, text_of

from lsc_engine.runs.folder.status import read_status, write_status
from lsc_tui.data.run_view import LOSS
from lsc_tui.screens.monitor.screen import MonitorScreen
from lsc_tui.widgets.chart import Chart
from lsc_tui.widgets.log import LogPane
from lsc_tui.widgets.panel import Panel
from tests.waiting import pause_until

RUNNING = "0:lsc-2025/fig9/V21-min/seed-0"


async def _watch(app, pilot, key: str = RUNNING) -> MonitorScreen:  # type: ignore[no-untyped-def]
    app.watch_run(key)
    await settle(app, pilot)
    assert isinstance(app.lsc_screen, MonitorScreen)
    return app.lsc_screen


async def test_enter_on_a_run_opens_it(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        await pilot.press("g", "down", "enter")
        await settle(app, pilot)
        assert app.current_mode == "monitor"
        watched = app.lsc_screen.watched  # type: ignore[attr-defined]
        assert watched.id == "lsc-2025/fig9/A-384/seed-0"
        assert "lsc-2025/fig9 › A shuffled n=384 · s0" in text_of(app)
        await pilot.press("escape")
        await pilot.pause()
        assert app.current_mode == "runs"


async def test_curves_state_and_resume_mark(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        await _watch(app, pilot)
        curves = app.store.curves[RUNNING]
        assert curves.curves[LOSS].step.size == 128
        assert len(curves.resumed) == 1
        assert curves.resumed[0][1] == 71.0
        text = text_of(app)
        assert "● running" in text
        assert "ETA 16:48" in text
        assert "64%  epoch 128.0 of 200" in text
        assert "R" in next(line for line in text.splitlines() if "└0" in line)


async def test_cursor_reads_the_value_under_it(runs: Path) -> None:
    async with open_app(runs, size=(160, 48)) as (app, pilot):
        screen = await _watch(app, pilot)
        await pilot.press("left", "left", "left")
        await pilot.pause()
        assert screen.look.cursor is not None
        curve = app.store.curves[RUNNING].curves[LOSS]
        at = int(np.searchsorted(curve.epoch, screen.look.cursor, side="right")) - 1
        shown = f"{curve.value[at]:.4f}"[1:]
        assert f"loss {shown}" in text_of(app)
        await pilot.press("0")
        await pilot.pause()
        assert screen.look.cursor is None


async def test_zoom_and_pan_move_both_charts(runs: Path) -> None:
    async with open_app(runs, size=(160, 48)) as (app, pilot):
        screen = await _watch(app, pilot)
        await pilot.press("]")
        await pilot.pause()
        assert "+ zooms in" in text_of(app)
        await pilot.press("+")
        await pilot.pause()
        whole = screen.look.x1 - screen.look.x0  # type: ignore[operator]
        assert 95 < whole < 105
        before = screen.look.x0
        await pilot.press("]")
        await pilot.pause()
        assert screen.look.x0 > before  # type: ignore[operator]
        await pilot.press("-", "-")
        await pilot.press("0")
        await pilot.pause()
        assert screen.look.x0 is None


async def test_metric_shows_what_else_was_logged(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        await _watch(app, pilot)
        await pilot.press("m")
        await settle(app, pilot)
        assert "speed/images_per_second" in text_of(app)
        assert "speed/images_per_second" in app.store.curves[RUNNING].curves


async def test_log_follows_until_scrolled_and_finds_words(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        screen = await _watch(app, pilot)
        log = screen.query_one("#log", LogPane)
        assert log.follow
        assert "epoch 121" in text_of(app)
        path = app.store.runs[RUNNING].run.log_path
        with path.open("a") as file:
            file.write("04:31:02 epoch 129  \x1b[31mred\x1b[0m\x07 news\n")
        await pause_until(pilot, lambda: "epoch 129" in text_of(app))
        assert "epoch 129  red� news" in text_of(app)
        await pilot.press("up", "up", "up")
        await pilot.pause()
        assert not log.follow
        assert "epoch 129" not in text_of(app)
        await pilot.press("slash", *"SIGTERM", "enter")
        await pilot.pause()
        assert "SIGTERM: saved, leaving" in log.text()
        await pilot.press("G")
        await pilot.pause()
        assert log.follow


async def test_settings_open_over_the_charts(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        await _watch(app, pilot)
        assert "model.dim 17 (384)   target.system V21 (A)" in text_of(app)
        await pilot.press("d")
        await pilot.pause()
        text = text_of(app)
        assert "data.dataset" in text
        assert "└0" not in text
        await pilot.press("escape")
        await pilot.pause()
        assert "└0" in text_of(app)


async def test_one_chart_alone(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        await _watch(app, pilot)
        await pilot.press("z")
        await pause_until(pilot, lambda: "─ log" not in text_of(app))
        lines = text_of(app).splitlines()
        assert sum("┤" in line for line in lines) >= 3
        assert all(line.count("└") == 1 for line in lines if "└" in line)
        assert not any(line.startswith("─ log") for line in lines)


async def test_failed_diverged_and_queued_say_why(runs: Path) -> None:
    async with open_app(runs) as (app, pilot):
        await _watch(app, pilot, "0:etf-2024/mlp/V21-384/seed-0")
        assert "exit 1: CUDA out of memory: 41.2 GB wanted" in text_of(app)
        await _watch(app, pilot, "0:lsc-2025/fig9/V21-min/seed-1")
        assert "the loss became NaN at step 100" in text_of(app)
        await _watch(app, pilot, "0:lsc-2025/fig9/CE-384/seed-0")
        text = text_of(app)
        assert "1st in line" in text
        assert "─ 1st in line ─" in text


async def test_a_run_without_a_baseline_names_its_loss_or_system_and_n(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    make_study(root, [("CE-384", 0, "finished", 20, 0.3)], name="one")
    async with open_app(root) as (app, pilot):
        await _watch(app, pilot, "0:one/CE-384/seed-0")
        assert "cross-entropy n = 384" in text_of(app)


async def test_a_place_in_line_is_that_in_the_queue_of_one_process(tmp_path: Path) -> None:
    root, first = tmp_path / "runs", 41207
    for number, name in enumerate(("one", "two")):
        for folder in make_study(root, [("A-384", seed, "queued", 0, 1.0) for seed in range(2)], name=name).values():
            write_status(folder, replace(read_status(folder), host="gpu09", pid=first + number))
    async with open_app(root, (160, 48)) as (app, pilot):
        assert {view.id: view.place for view in app.store.runs.values()} == {
            f"{name}/A-384/seed-{seed}": 1 + seed for name in ("one", "two") for seed in range(2)
        }
        await _watch(app, pilot, "0:two/A-384/seed-1")
        assert "2nd in line after A shuffled n=384 s0. R starts it out of its turn" in text_of(app)
        await _watch(app, pilot, "0:two/A-384/seed-0")
        assert "1st in line. R starts" in text_of(app)
        assert "attempt 0" not in text_of(app)


# --- one pane alone, errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(80, 24), (160, 48), (100, 60)], ids=lambda s: f"{s[0]}x{s[1]}")
async def test_z_gives_a_pane_the_whole_screen(runs: Path, size: tuple[int, int]) -> None:
    async with open_app(runs, size) as (app, pilot):
        before = app.lsc_screen.query_one("#charts").size.height
        await pilot.press("z")
        await pilot.pause()
        charts = app.lsc_screen.query_one("#charts")
        assert charts.size.height > max(before, size[1] - 6)
        await pilot.press("z")
        await pilot.pause()
        assert charts.size.height == before
        screen = await _watch(app, pilot)
        for pane in (*screen.panes[1:], screen.panes[0]):
            await pilot.press("tab", "z")
            await pilot.pause()
            charts = list(screen.query(Chart))
            part = screen.log_pane if pane == "log" else charts[screen.panes.index(pane)]
            assert part.size.height > size[1] - 8, pane
            await pilot.resize_terminal(size[0], size[1] + 3)
            await pilot.pause()
            assert part.size.height > size[1] - 5, pane
            await pilot.resize_terminal(*size)
            await pilot.press("z")
            await pilot.pause()
            assert screen.query_one("#log").size.height < size[1] // 2


LONG = (
    "RuntimeError: the data set /data/anna/imagenet-1k/packed/train-32.bin was changed since this run began (sha256 "
    "3f9c2e1a… is now 77b0d4e2…); pack it again with lsc-engine pack imagenet --size 32, or fork from step 1 000"
)
PATH = f"OSError: [Errno 28] No space left on device: '/{'very-long-folder/' * 12}step-00001000/model.safetensors'"


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (160, 48)], ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("message", [LONG, PATH, f"{LONG}\n{PATH}"], ids=["sentence", "path", "lines"])
async def test_an_error_is_shown_whole(runs: Path, message: str, size: tuple[int, int]) -> None:
    folder = runs / "etf-2024/mlp/V21-384/seed-0"
    write_status(folder, replace(read_status(folder), message=message))
    async with open_app(runs, size) as (app, pilot):
        screen = await _watch(app, pilot, "0:etf-2024/mlp/V21-384/seed-0")
        head = screen.query_one("#head", Panel)
        await pause_until(pilot, lambda: head.size.height > 2 or len(message) < size[0])
        shown = "".join(head.text().split())
        assert "".join(f"exit 1: {message}".split()) in shown


async def test_a_failed_run_opens_on_its_log_at_the_first_error(runs: Path) -> None:
    log = runs / "etf-2024/mlp/V21-384/seed-0" / "log.txt"
    lines = [f"04:31:02 epoch {i}  loss 0.1" for i in range(100)]
    lines += ["04:31:03 Traceback (most recent call last):", "  File x", f"ValueError: {'long ' * 30}the end of it"]
    log.write_text("\n".join(lines + [f"after {i}" for i in range(60)]) + "\n")
    async with open_app(runs) as (app, pilot):
        app.watch_run("0:etf-2024/mlp/V21-384/seed-0")
        await settle(app, pilot)
        await pause_until(pilot, lambda: "Traceback" in text_of(app))
        assert "the end of it" in text_of(app), "long lines are wrapped"
        assert "R resume" in text_of(app).splitlines()[-1]
        await pilot.press("right")
        await pilot.pause()
        assert "the end of it" not in text_of(app), "unwrapped"
        assert "ValueError" in text_of(app)
        await pilot.press(*["right"] * 5)
        await pilot.pause()
        assert "the end of it" in text_of(app)
        assert "ValueError" not in text_of(app)
        assert "04:31:03" in text_of(app), "the time stays in sight"
        await pilot.press(*["left"] * 6)
        await pilot.pause()
        assert "→ unwraps" in text_of(app)
        await pilot.press("slash", *"after 59", "enter")
        await pilot.pause()
        assert "after 59" in text_of(app), "a search goes down where nothing is above"
        await pilot.press("escape", "escape")
        await pilot.pause()
        assert "train/loss" in text_of(app)


@pytest.mark.parametrize("state", ["failed", "lost", "stopped", "diverged"])
async def test_resume_is_offered_wherever_it_acts(runs: Path, state: str) -> None:
    folder = runs / "etf-2024/mlp/V21-384/seed-0"
    write_status(folder, replace(read_status(folder), state=state))
    async with open_app(runs) as (app, pilot):
        app.watch_run("0:etf-2024/mlp/V21-384/seed-0")
        await settle(app, pilot)
        for _ in range(4):
            for _ in range(2):
                assert "R resume" in text_of(app).splitlines()[-1]
                await pilot.press("z")
                await settle(app, pilot)
            await pilot.press("m")
            await settle(app, pilot)


async def test_n_goes_through_the_hits_while_a_search_of_the_log_is_open(runs: Path) -> None:
    log = runs / "lsc-2025/fig9/V21-min/seed-0" / "log.txt"
    log.write_text("".join(f"line {i} {'needle' if i % 40 == 7 else ''}\n" for i in range(200)))
    async with open_app(runs) as (app, pilot):
        app.watch_run("0:lsc-2025/fig9/V21-min/seed-0")
        await settle(app, pilot)
        screen = app.lsc_screen
        assert isinstance(screen, MonitorScreen)
        await pause_until(pilot, lambda: screen.log_pane.count == 200)
        await pilot.press("slash", *"needle", "enter")
        assert screen.log_pane.hit == 167
        await pilot.press("N", "N", "n")
        assert screen.log_pane.hit == 127
        await pilot.press("n", "n")
        assert screen.log_pane.hit == 167
        assert "below here" in screen.message[0]
        await pilot.press("escape", "escape", "n")
        assert screen.field is not None, "without a search n is the note"


# --- heights, grid ----------------------------------------------------------------------------------------------------


async def test_y_cycles_over_logarithmic_logit_and_linear(runs: Path) -> None:
    async with open_app(runs, size=(160, 48)) as (app, pilot):
        screen = await _watch(app, pilot)
        loss, accuracy = list(screen.query(Chart))[:2]
        seen = []
        for _ in range(4):
            seen.append((loss.picture.y.log, accuracy.picture.y.logit))  # type: ignore[union-attr]
            await pilot.press("y")
            await settle(app, pilot)
        assert seen == [(True, False), (True, True), (False, False), (True, False)]


async def test_heights_fit_what_is_in_sight_and_are_magnified_around_the_cursor(runs: Path) -> None:
    async with open_app(runs, size=(160, 48)) as (app, pilot):
        screen = await _watch(app, pilot)
        chart = list(screen.query(Chart))[1]
        curve = app.store.curves[RUNNING].curves["train/accuracy"]
        whole = chart.picture.y  # type: ignore[union-attr]
        assert whole.lo >= 0
        assert 100 * curve.value.max() <= whole.hi <= 100
        await pilot.press("less_than_sign")
        await settle(app, pilot)
        assert "> magnifies it" in text_of(app)
        await pilot.press("left", "greater_than_sign", "greater_than_sign")
        await settle(app, pilot)
        part = chart.picture.y  # type: ignore[union-attr]
        assert part.hi - part.lo == pytest.approx((whole.hi - whole.lo) / 4)
        at = int(np.searchsorted(curve.epoch, screen.look.cursor, side="right")) - 1
        assert part.lo < 100 * curve.value[at] < part.hi
        assert "log y ×4" in text_of(app)
        await pilot.press("left_curly_bracket")
        await settle(app, pilot)
        assert chart.picture.y.lo < part.lo  # type: ignore[union-attr]
        await pilot.press("escape")
        await settle(app, pilot)
        assert chart.picture.y == whole  # type: ignore[union-attr]
        await pilot.press("+")
        await settle(app, pilot)
        assert chart.picture.y.hi - chart.picture.y.lo < whole.hi - whole.lo, "a part of x fits its heights"  # type: ignore[union-attr]


@pytest.mark.parametrize("size", [(80, 24), (160, 48)], ids=lambda s: f"{s[0]}x{s[1]}")
async def test_a_grid_shows_many_metrics_by_pages_and_by_name(runs: Path, size: tuple[int, int]) -> None:
    folder = runs / "lsc-2025/fig9/V21-min/seed-0"
    with (folder / "metrics.jsonl").open("a") as file:
        for name in map(chr, range(ord("a"), ord("a") + 18)):
            file.write(json.dumps({"step": 516, "epoch": 129.0, "time": 1.0, f"extra/{name}x": 0.5}) + "\n")
    async with open_app(runs, size=size) as (app, pilot):
        screen = await _watch(app, pilot)

        def shown() -> list[Chart]:
            return [chart for chart in screen.query(Chart) if chart.display and chart.series]

        for count in (4, 9, 16):
            await pilot.press("number_sign")
            await settle(app, pilot)
            assert len(shown()) == count
            assert len({chart.region for chart in shown()}) == count
            assert all(chart.size.width >= 18 and chart.size.height >= 5 for chart in shown())
        first = [chart.title for chart in shown()]
        await pilot.press("m")
        await settle(app, pilot)
        assert len(shown()) == 6
        assert not {chart.title for chart in shown()} & set(first)
        await pilot.press("M")
        await settle(app, pilot)
        assert [chart.title for chart in shown()] == first
        await pilot.press("slash", *"extra/[ab]", "enter")
        await settle(app, pilot)
        assert [chart.title for chart in shown()] == ["extra/ax", "extra/bx"]
        await pilot.press("slash", *"qqq", "enter")
        await settle(app, pilot)
        assert 'no metric of this run holds "qqq"' in text_of(app)
        await pilot.press("escape", "escape", "escape")
        await settle(app, pilot)
        assert len(shown()) == 2
        assert screen.log_pane.size.height >= 4
