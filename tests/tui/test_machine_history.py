"""What a run's machine did, over time: in Monitor and Compare, for runs of hosts that cannot be seen from here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from comparable import STUDY, make_comparable
from tui_helpers import NOW, open_app, settle, text_of

from lsc_engine.common.hardware import Gpu, Hardware
from lsc_engine.runs.folder.status import read_status, write_status
from lsc_engine.runs.metrics.machine import Sample
from lsc_tui.screens.compare.comparison import unequal
from lsc_tui.screens.compare.screen import CompareScreen
from lsc_tui.screens.monitor.screen import MonitorScreen
from tests.waiting import pause_until

pytestmark = pytest.mark.slow

RUNNING = "0:lsc-2025/fig9/V21-min/seed-0"


def sample(number: int, step: int, *, gpus: int = 1, reason: str = "sw_power_cap") -> Sample:
    """One of a run whose GPU gets warmer by a degree with each."""
    heat = [50.0 + number + 10 * i for i in range(gpus)]
    own = tuple(
        Gpu(4 + i, util=80.0, memory=33e9, power=500.0, temperature=t, clock=1980.0, throttled=(reason,))
        for i, t in enumerate(heat)
    )
    return Sample(NOW - 1000 + 10 * number, step, 0.4, 0.25, Hardware(own, cpu=35.0, memory=64e9, disk_free=2e12))


def move_to_another_host(folder: Path) -> None:
    write_status(folder, replace(read_status(folder), host="gpu99", machine="other"))


@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 48)])
@pytest.mark.parametrize("gpus", [1, 2])
async def test_monitor_draws_the_machine_of_another_host(runs: Path, width: int, height: int, gpus: int) -> None:
    folder = runs / RUNNING[2:]
    move_to_another_host(folder)
    last = read_status(folder).step
    lines = [sample(i, last * i // 20, gpus=gpus).line() for i in range(21)]
    (folder / "machine.jsonl").write_bytes(b"".join(lines) + lines[0][:30])
    async with open_app(runs, size=(width, height)) as (app, pilot):
        app.watch_run(RUNNING)
        await settle(app, pilot)
        screen = app.lsc_screen
        assert isinstance(screen, MonitorScreen)
        text = text_of(app)
        assert "cannot see that host" not in text
        for part in ("GPU 4 80%", "mem 33.0G", "500W", "70°C", "1980 MHz", "sw_power_cap"):
            assert part in text
        assert ("GPU 5 80%" in text) == (gpus == 2)
        for part in ("cpu 35%", "load 0.40/cpu", "ram 64G", "disk 2000G"):
            assert part in text
        pages = screen.pages(screen.watched)  # type: ignore[arg-type]
        wanted = next(i for i, page in enumerate(pages) if any("gpu_temperature_c" in name for f in page for name in f))
        await pilot.press(*"m" * wanted)
        await settle(app, pilot)
        name = "machine/gpu_temperature_c"
        assert name in text_of(app)
        curve = app.store.curves[RUNNING].curves[name]
        assert curve.value.tolist() == [50.0 + i + 10 * (gpus - 1) for i in range(21)]
        loss = app.store.curves[RUNNING].curves["train/loss"]
        assert np.interp(curve.step[1:], loss.step, loss.epoch, left=np.nan)[5:] == pytest.approx(curve.epoch[1:][5:])
        each = next(family for page in pages for family in page if name in family)
        assert each == ((name, f"{name}/4", f"{name}/5") if gpus == 2 else (name,))
        # It grows as it is sampled.
        with (folder / "machine.jsonl").open("ab") as file:
            file.write(b"\n" + sample(30, last, gpus=gpus).line())
        await pause_until(pilot, lambda: app.store.curves[RUNNING].curves[name].value[-1] == 80 + 10 * (gpus - 1))


async def test_monitor_without_samples_of_another_host(runs: Path) -> None:
    move_to_another_host(runs / RUNNING[2:])
    async with open_app(runs) as (app, pilot):
        app.watch_run(RUNNING)
        await settle(app, pilot)
        assert "cannot see that host from here" in text_of(app)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 48)])
async def test_compare_draws_machines_and_marks_what_they_slowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, height: int
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    make_comparable(tmp_path / "runs", tmp_path / "fig1a.toml")
    for variant, reason in (("A", "sw_power_cap"), ("V21", "hw_thermal_slowdown")):
        for seed in range(3):
            folder = tmp_path / "runs" / STUDY / variant / f"seed-{seed}"
            lines = [sample(i + 5 * seed, 200 * i, reason=reason).line() for i in range(11)]
            (folder / "machine.jsonl").write_bytes(b"".join(lines))
    source = tmp_path / "runs" / STUDY / "CE/seed-0/source.json"
    busy = {"processors": 2, "load": 8.0}
    source.write_text(json.dumps(json.loads(source.read_text()) | {"load": busy}))
    async with open_app(tmp_path / "runs", size=(width, height)) as (app, pilot):
        await pilot.press("g", "enter")
        await settle(app, pilot)
        screen = app.lsc_screen
        assert isinstance(screen, CompareScreen)
        assert screen.found is not None
        rows = {row.label: row for row in screen.found.rows}
        assert {label: row.disturbed for label, row in rows.items()} == {
            "A n=384": "", "CE": "busy machine", "V21 n=384": "throttled", "V21 n_min": "",
        }  # fmt: skip
        words = " ".join(unequal(screen.found))
        assert "b trained on a machine with more work than processors: seconds not compared" in words
        assert "c trained on a machine that was slowed down for heat or power: seconds not compared" in words
        assert rows["V21 n=384"].levels[0].faster["seconds"].note == "throttled"
        assert "gpu_temperature_c" not in "".join(screen.found.curves)
        assert "machine/gpu_temperature_c" in screen.found.metrics
        while screen.metric != "machine/gpu_temperature_c":
            await pilot.press("m")
        await settle(app, pilot)
        mean = screen.found.curves["machine/gpu_temperature_c"][rows["V21 n=384"].key]
        assert mean.x.tolist() == list(range(0, 101, 10))
        assert mean.mean.tolist() == [55.0 + i for i in range(11)]
        text = text_of(app)
        assert "machine/gpu_temperature_c" in text
        assert "a 65" in text
        await pilot.press("v")
        await pilot.pause()
        assert "levels are of loss and accuracy" in text_of(app)
        if width == 160:
            assert [line.split()[-2] for line in text.splitlines() if "│  c V21" in line] == ["throttled"]
            assert [line.split()[-3:-1] for line in text.splitlines() if "│  b CE" in line] == [["busy", "machine"]]
