"""kill -9 at random moments, then the same command again: weights, optimizer and metrics as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from lsc_engine.runs.folder.checkpoints import newest_good

from .harness import PHASES, RUN, Process, begun, outcome, place, run_of, train, until

KILLS = int(os.environ.get("LSC_FAULT_KILLS", "10"))
MANY = 60
SEED = int(os.environ.get("LSC_FAULT_SEED", "0"))
KILLS_PER_RUN = 2
# Where a kill is placed, how many beginnings of the phase may pass first, and how much later it comes at most, in s.
MOMENTS = {
    "start": ("", 1, 0.3),
    "data": ("d", 2, 0.05),
    "step": ("t", 9, 0.02),
    "evaluate": ("e", 2, 0.02),
    "save": ("s", 3, 0.06),
}


def kill_at(process: Process, folder: Path, moment: str, draw: random.Random) -> str | None:
    """Kill the process at a random moment of a phase; the state it then shows, or None if it was done before."""
    phase, most, later = MOMENTS[moment]
    goal = begun(folder, phase) + draw.randint(1, most) if phase else 0
    until(lambda: not phase or begun(folder, phase) >= goal or process.ended())
    time.sleep(draw.uniform(0.0, later))
    return moment if process.kill() else None


def readable(folder: Path) -> None:
    """After a kill nothing is half there: every file reads, the newest checkpoint with its name is good."""
    runs = folder / "runs" / RUN
    if not runs.exists():
        return
    run = run_of(folder)
    status = run.status()
    assert status.shown_state in ("queued", "lost", "finished", "running"), status
    json.loads((runs / "source.json").read_text())
    _, faults = newest_good(runs)
    assert faults == []
    if (runs / "metrics.jsonl").exists():
        whole, _, torn = (runs / "metrics.jsonl").read_bytes().rpartition(b"\n")
        assert all(json.loads(line)["step"] > 0 for line in whole.split(b"\n") if line)
        assert len(torn) < 1000


@pytest.mark.parametrize("kills", [KILLS, pytest.param(MANY, marks=pytest.mark.slow)])
def test_killed_runs_end_bit_equal_to_the_straight_one(
    straight: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], kills: int
) -> None:
    draw = random.Random(SEED + kills)
    moments = [list(MOMENTS)[number % len(MOMENTS)] for number in range(kills)]
    draw.shuffle(moments)
    killed: list[str] = []
    runs = 0
    while moments:
        folder = place(tmp_path / str(runs))
        for moment in [moments.pop() for _ in range(min(KILLS_PER_RUN, len(moments)))]:
            happened = kill_at(train(folder, setup=PHASES), folder, moment, draw)
            if happened is None:
                # It was faster than the kill, which is due in another run.
                moments.append(moment)
                continue
            killed.append(happened)
            readable(folder)
        assert train(folder, setup=PHASES).wait() == 0, (folder / "out.txt").read_text()
        assert outcome(folder) == straight
        runs += 1
    with capsys.disabled():
        counts = ", ".join(f"{killed.count(moment)} {moment}" for moment in MOMENTS)
        print(f"\n{len(killed)} of {len(killed)} kills in {runs} runs bit-equal ({counts}; seed {SEED})")
