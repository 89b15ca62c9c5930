"""Many runs and long files stay usable. The figures are printed."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tui_helpers import make_app, settle, text_of

from lsc_tui.collector import Collector
from lsc_tui.model import LOSS

RUNS = 1000
LINES = 1_000_000


@pytest.fixture
def thousand(made_runs: Path, tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    for i in range(RUNS):
        shutil.copytree(made_runs / "mine/A-384/seed-0", root / f"study-{i // 10:03}/A-384/seed-{i % 10}")
    return root


class Lag:
    """How late the event loop comes to a wish of every 10 ms: what a key has to wait for beside its own work."""

    def __init__(self) -> None:
        self.late: list[float] = []
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            started = time.perf_counter()
            await asyncio.sleep(0.01)
            self.late.append(1000 * (time.perf_counter() - started - 0.01))

    def end(self) -> str:
        """Median, 95th percentile and worst, in words."""
        self._task.cancel()
        self.late.sort()
        n = len(self.late)
        return f"{self.late[n // 2]:.0f} / {self.late[n * 95 // 100]:.0f} / {self.late[-1]:.0f} ms"

    @property
    def usual(self) -> float:
        """The 95th percentile in milliseconds."""
        return sorted(self.late)[len(self.late) * 95 // 100]


async def test_a_thousand_runs(thousand: Path, figure: Callable[[str], None]) -> None:
    app = make_app(thousand)
    started = time.perf_counter()
    async with app.run_test(size=(160, 48)) as pilot:
        lag = Lag()
        while not app.store.runs:
            await pilot.pause(0.01)
        first = time.perf_counter() - started
        await settle(app, pilot)
        every, loading = time.perf_counter() - started, lag.end()
        assert len(app.store.runs) == RUNS
        lag = Lag()
        for key in [*["down"] * 20, "pagedown", "G", "g", "space", "b", "b", ".", "i"]:
            await pilot.press(key)
        assert "1000 runs" in text_of(app)
        keys = lag.end()
    figure(
        f"1000 runs: first rows {first:.2f} s, all {every:.2f} s; loop late (median, 95 %, worst) while "
        f"reading {loading}, with keys {keys} (bar 100)"
    )
    assert lag.usual < 250


def test_looking_again_at_a_thousand_ended_runs_costs_little(thousand: Path, figure: Callable[[str], None]) -> None:
    collector = Collector([thousand], lambda: None, hardware=False)
    collector.round()
    collector.take()
    busy = []
    for _ in range(5):
        started = time.process_time()
        collector.round()
        busy.append(time.process_time() - started)
    figure(f"1000 ended runs: {1000 * sorted(busy)[2]:.1f} ms a second of looking (bar 20)")
    assert sorted(busy)[2] < 0.06
    assert not collector.take().runs


async def test_a_million_lines(made_runs: Path, tmp_path: Path, figure: Callable[[str], None]) -> None:
    folder = tmp_path / "runs" / "long/A-384/seed-0"
    shutil.copytree(made_runs / "mine/A-384/seed-0", folder)
    form = '{{"step":{0},"epoch":{1},"time":{2},"attempt":1,"train/loss":{3:.7f}}}\n'
    with (folder / "metrics.jsonl").open("w") as file:
        for start in range(1, LINES, 100_000):
            file.write("".join(form.format(i, i / 100, i / 50, 1 / i) for i in range(start, start + 100_000)))
    key, first = "0:long/A-384/seed-0", 0.0
    app = make_app(tmp_path / "runs")
    started = time.perf_counter()
    async with app.run_test(size=(160, 48)) as pilot:
        lag = Lag()
        while time.perf_counter() - started < 60:
            app.simulate_key("left")
            await asyncio.sleep(0.02)
            curves = app.store.curves.get(key)
            if curves is not None and LOSS in curves.curves:
                first = first or time.perf_counter() - started
                if not curves.behind and curves.curves[LOSS].step.size == LINES:
                    break
        whole, reading = time.perf_counter() - started, lag.end()
        app.watch_run(key)
        await settle(app, pilot)
        lag = Lag()
        for name in [*["left"] * 10, "s", "+", "]", "0"]:
            await pilot.press(name)
        keys = lag.end()
        assert app.store.curves[key].curves[LOSS].step.size == LINES
    figure(
        f"a million lines: curve over all epochs {first:.2f} s (bar 1.5), whole {whole:.2f} s; loop late (median, 95%, "
        f"worst) while reading {reading}, keys in Monitor {keys} (bar 100)"
    )
    assert 0 < first < 4
    assert lag.usual < 250


def _lines(first: int, last: int) -> str:
    form = '{{"step":{0},"epoch":{1},"time":{2},"attempt":1,"train/loss":{3:.7f}}}\n'
    return "".join(form.format(i, i / 100, i / 50, 1 / i) for i in range(first, last + 1))


def test_a_long_file_is_shown_by_a_sample_until_it_is_read(
    made_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every moment the curve reaches from end to end; in the end, also of a file replaced meanwhile, it is whole."""
    monkeypatch.setattr("lsc_tui.collector.SAMPLE_FROM", 2 << 20)
    monkeypatch.setattr("lsc_tui.collector.BUDGET", 1 << 20)
    folder = tmp_path / "runs" / "long/A-384/seed-0"
    shutil.copytree(made_runs / "mine/A-384/seed-0", folder)
    metrics, key, count = folder / "metrics.jsonl", "0:long/A-384/seed-0", 80_000
    metrics.write_text(_lines(1, count))
    collector = Collector([tmp_path / "runs"], lambda: None, hardware=False)
    collector.round()
    collector.wish({key: frozenset((LOSS,))})
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
