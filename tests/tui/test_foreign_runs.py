"""Logs of other tools in the same screens as our runs."""

from __future__ import annotations

from pathlib import Path

from tui_helpers import open_app, text_of

from lsc_tui.data.poller import Poller


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
