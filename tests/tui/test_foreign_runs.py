"""Logs of other tools in the same screens as our runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from comparable import make_comparable
from tui_helpers import open_app, settle, text_of

from lsc_tui.data.poller import Poller
from lsc_tui.screens.compare.screen import CompareScreen


def test_the_poller_follows_a_log_of_another_tool(tmp_path: Path) -> None:
    path = tmp_path / "exp" / "a" / "metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_text("step,train_loss,val_acc\n1,2.0,0.25\n")
    poller = Poller([tmp_path], lambda: None, hardware=False)
    poller.subscribe({"0:exp/a": frozenset({"train/loss"})})
    poller.round()
    update = poller.take()
    view = update.runs["0:exp/a"]
    assert (view.read_only, view.state, view.loss, view.last("val/accuracy")) == (True, "running", 2.0, 0.25)
    with path.open("a") as out:
        out.write("2,1.5,0.5\n")
    poller._next_look = 0.0
    poller.round()
    update = poller.take()
    assert update.curves["0:exp/a"].curves["train/loss"].value.tolist() == [2.0, 1.5]
    assert (update.runs["0:exp/a"].status.step, update.runs["0:exp/a"].trend) == (2, (2.0, 1.5))


async def test_keys_that_act_name_the_origin(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "exp" / "a" / "metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_text("step,train_loss\n1,2.0\n2,1.0\n")
    async with open_app(tmp_path / "runs") as (app, pilot):
        app.poller.stop()
        for key in "SRDntNF":
            await pilot.press(key)
            assert f"{key}: a csv log of another tool is only read" in text_of(app), key
            await pilot.press("escape")
    assert [path] == [file for file in (tmp_path / "runs").rglob("*") if file.is_file()]


def test_a_long_log_is_shown_by_a_sample_first(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    count = 150_000  # 6 MB
    path.write_text("step,train_loss\n" + "".join(f"{step},{step / count:.30f}\n" for step in range(count)))
    poller = Poller([tmp_path], lambda: None, hardware=False)
    poller.subscribe({"0:.": frozenset({"train/loss"})})
    poller.round()
    first = poller.take().curves["0:."]
    assert first.sampled
    step, value = first.curves["train/loss"].step, first.curves["train/loss"].value
    assert 1000 < len(step) < count / 2
    assert step[0] == 0
    assert step[-1] > 0.98 * count
    assert (value == step / count).all()
    for _ in range(100):
        if not poller.round():
            break
    poller._next_step.clear()
    poller.round()
    whole = poller.take().curves["0:."]
    assert (len(whole.curves["train/loss"].step), whole.sampled) == (count, False)


async def test_a_log_of_another_tool_and_a_run_of_ours_on_one_axis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    make_comparable(tmp_path / "runs", tmp_path / "fig1a.toml")
    path = tmp_path / "runs" / "a" / "theirs" / "metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_text("step,train_loss,train_acc\n" + "".join(f"{20 * i},{2 / (i + 1)},{i / 40}\n" for i in range(30)))
    async with open_app(tmp_path / "runs", size=(160, 48)) as (app, pilot):
        await pilot.press("g", "down", "space", "G", "space", "c")
        await settle(app, pilot)
        screen = app.lsc_screen
        assert isinstance(screen, CompareScreen)
        assert screen.found is not None
        assert {run.origin for row in screen.found.comparison.rows for run in row.runs} == {"lsc", "csv"}
        assert "theirs" in text_of(app)
