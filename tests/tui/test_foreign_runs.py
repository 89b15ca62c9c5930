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
