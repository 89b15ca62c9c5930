"""Many runs and long files stay usable: who reads them, how much is read, and how much is drawn."""

from __future__ import annotations

import asyncio
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from tui_helpers import make_app, settle, text_of

from lsc_engine.common.formatting import grouped
from lsc_engine.runs.metrics import reader as metrics_module
from lsc_tui.data import poller as collector_module
from lsc_tui.data import run_cache as reading
from lsc_tui.data.poller import Poller
from lsc_tui.data.run_view import LOSS
from lsc_tui.widgets.runs_table import RunsTable
from tests.counting import bytes_read, files_opened
from tests.waiting import pause_until

pytestmark = pytest.mark.slow

RUNS = 1000
LINES = 1_000_000


@pytest.fixture(scope="module")
def thousand(made_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("thousand") / "runs"
    for i in range(RUNS):
        shutil.copytree(made_runs / "mine/A-384/seed-0", root / f"study-{i // 10:03}/A-384/seed-{i % 10}")
    return root


async def test_a_key_among_a_thousand_runs_reads_no_run_and_draws_what_is_seen(
    thousand: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main, looked, drawn = threading.current_thread(), set(), []
    look, row_line = reading.TrackedRun.look, RunsTable._row_line

    def noted_look(self: reading.TrackedRun, **options: object) -> bool:
        looked.add(threading.current_thread())
        return look(self, **options)  # type: ignore[arg-type]

    def noted_line(self: RunsTable, *words: object) -> object:
        drawn.append(words)
        return row_line(self, *words)  # type: ignore[arg-type]

    monkeypatch.setattr(reading.TrackedRun, "look", noted_look)
    monkeypatch.setattr(RunsTable, "_row_line", noted_line)
    app = make_app(thousand)
    async with app.run_test(size=(160, 48)) as pilot:
        await settle(app, pilot)
        assert len(app.store.runs) == RUNS
        app.poller.stop()
        await asyncio.to_thread(app.poller.join)
        for key in [*["down"] * 20, "pagedown", "G", "g", "space", "b", "b", ".", "i"]:
            drawn.clear()
            await pilot.press(key)
            # A screen of 48 lines, drawn some times; far from all rows.
            assert len(drawn) <= 12 * 48 < RUNS, key
        assert f"{grouped(RUNS)} runs" in text_of(app)
    assert looked
    assert main not in looked


def test_looking_again_at_a_thousand_ended_runs_opens_none_of_their_files(thousand: Path) -> None:
    collector = Poller([thousand], lambda: None, hardware=False)
    collector.round()
    collector.take()
    before = bytes_read()
    with files_opened() as opened:
        for _ in range(5):
            collector.round()
    assert [path for path in opened if path.startswith(str(thousand)) and Path(path).is_file()] == []
    assert bytes_read() - before < 100_000
    assert not collector.take().runs


async def test_a_million_lines_are_read_once_in_portions_beside_the_screens(
    made_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "runs" / "long/A-384/seed-0"
    shutil.copytree(made_runs / "mine/A-384/seed-0", folder)
    form = '{{"step":{0},"epoch":{1},"time":{2},"attempt":1,"train/loss":{3:.7f}}}\n'
    with (folder / "metrics.jsonl").open("w") as file:
        for start in range(1, LINES, 100_000):
            file.write("".join(form.format(i, i / 100, i / 50, 1 / i) for i in range(start, start + 100_000)))
    size, portions = (folder / "metrics.jsonl").stat().st_size, []
    parse = metrics_module.parse_block

    def noted(data: bytes, *more: object) -> object:
        portions.append((threading.current_thread(), len(data)))
        return parse(data, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(metrics_module, "parse_block", noted)
    key, seen, app = "0:long/A-384/seed-0", [], make_app(tmp_path / "runs")

    def whole() -> bool:
        curves = app.store.curves.get(key)
        if curves is None or LOSS not in curves.curves:
            return False
        seen.append((curves.sampled, curves.curves[LOSS].step[-1]))
        return not curves.behind and curves.curves[LOSS].step.size == LINES

    async with app.run_test(size=(160, 48)) as pilot:
        await pause_until(pilot, lambda: app.simulate_key("left") or whole())
        app.watch_run(key)
        await settle(app, pilot)
        for name in [*["left"] * 10, "s", "+", "]", "0"]:
            await pilot.press(name)
        assert app.store.curves[key].curves[LOSS].step.size == LINES
    # At every moment the curve goes over all epochs: by a sample of the file until every line is read.
    assert all(last > 0.999 * LINES for _, last in seen)
    assert threading.current_thread() not in {thread for thread, _ in portions}
    assert max(length for _, length in portions) <= collector_module.BUDGET + (1 << 20)
    assert size <= sum(length for _, length in portions) < 1.1 * size


def _lines(first: int, last: int) -> str:
    form = '{{"step":{0},"epoch":{1},"time":{2},"attempt":1,"train/loss":{3:.7f}}}\n'
    return "".join(form.format(i, i / 100, i / 50, 1 / i) for i in range(first, last + 1))


def test_a_long_file_is_shown_by_a_sample_until_it_is_read(
    made_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every moment the curve reaches from end to end; in the end, also of a file replaced meanwhile, it is whole."""
    monkeypatch.setattr("lsc_tui.data.poller.SAMPLE_FROM", 2 << 20)
    monkeypatch.setattr("lsc_tui.data.poller.BUDGET", 1 << 20)
    folder = tmp_path / "runs" / "long/A-384/seed-0"
    shutil.copytree(made_runs / "mine/A-384/seed-0", folder)
    metrics, key, count = folder / "metrics.jsonl", "0:long/A-384/seed-0", 80_000
    metrics.write_text(_lines(1, count))
    collector = Poller([tmp_path / "runs"], lambda: None, hardware=False)
    collector.round()
    collector.subscribe({key: frozenset((LOSS,))})
    seen = []
    for turn in range(100):
        more = collector.round()
        if turn == 2:
            # Replaced while it is read: begun again, by a sample of what is there now.
            count = 90_000
            (tmp_path / "other").write_text(_lines(1, count))
            (tmp_path / "other").replace(metrics)
            more = True
        found = collector.take().curves.get(key)
        if found is not None:
            curve = found.curves[LOSS]
            assert curve.step[0] == 1
            assert curve.step[-1] >= 0.999 * 80_000
            assert np.allclose(curve.value, 1 / curve.step, atol=1e-7)
            seen.append((found.sampled, curve.step.size))
        if not more:
            break
    assert [sampled for sampled, _ in seen] == [True, True, False]
    assert 1000 < seen[0][1] < 40_000
    assert seen[-1][1] == count
    # What is appended later joins the curve; nothing is sampled again.
    with metrics.open("a") as file:
        file.write(_lines(count + 1, count + 50))
    collector.round()
    last = collector.take().curves[key]
    assert not last.sampled
    assert last.curves[LOSS].step[-1] == count + 50
