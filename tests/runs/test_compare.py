"""Levels, speed-ups and what is never compared."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from lsc_engine.analysis.compare import compare, device_kind, levels_of
from lsc_engine.analysis.levels import time_to_level
from lsc_engine.analysis.seed_curves import axis_values
from lsc_engine.analysis.verdict import to_json
from lsc_engine.common.errors import UsageError
from lsc_engine.runs.folder.writer import RunWriter
from lsc_engine.runs.read.run import list_runs

from .conftest import MakeRun


def train(folder: Path, speed: float, *, steps: int = 100, device: str = "cpu", state: str = "finished") -> None:
    """A run whose accuracy rises and whose loss falls `speed` times as fast as the plain one."""
    with RunWriter.open(folder, device=device, total_steps=steps, echo=False) as writer:
        for step in range(0, steps + 1, 2):
            done = min(speed * step / 100, 1.0)
            values = {"train/loss": 1 - 0.9 * done, "train/accuracy": done}
            writer.metrics(step, step / 10, step * 0.5, values)
        writer.finish(state, 0)


def test_speed_up_and_its_range(make_run: MakeRun, tmp_path: Path) -> None:
    for seed, (slow, fast) in enumerate([(1.0, 2.0), (1.0, 2.5)]):
        train(make_run(variant="a", seed=seed), slow)
        train(make_run(variant="b", seed=seed, dim=12), fast)
    found = compare(list_runs([tmp_path / "runs"]))
    a, b = found.rows
    assert found.baseline is a
    assert found.differing == {"model.dim": [10, 12]}
    accuracy, loss = b.levels
    assert (accuracy.metric, accuracy.level, loss.metric) == ("train/accuracy", 0.5, "train/loss")
    assert [r.at("steps") for r in a.levels[0].by_seed.values()] == [50.0, 50.0]
    assert [r.at("steps") for r in accuracy.by_seed.values()] == [26.0, 20.0]
    speed = accuracy.faster["steps"]
    assert speed.ratio == pytest.approx(50 / 23)
    assert (speed.low, speed.high, speed.seeds) == (pytest.approx(50 / 26), 2.5, 2)
    assert str(speed) == "×2.2 (1.9-2.5)"
    assert accuracy.faster["seconds"].ratio == pytest.approx(50 / 23)
    assert accuracy.text("epochs") == "2.3"
    assert str(a.levels[0].faster["steps"]) == "baseline"
    assert b.last["train/accuracy"] == (1.0, 0.0, 2)
    # Downward: 1 - 0.9 d <= 0.5 from d = 0.556 on.
    assert [r.at("steps") for r in a.levels[1].by_seed.values()] == [56.0, 56.0]


def test_a_level_not_reached_reads_the_length(make_run: MakeRun, tmp_path: Path) -> None:
    train(make_run(variant="a"), 1.0)
    train(make_run(variant="b", seed=0), 0.4)
    train(make_run(variant="b", seed=1), 1.0, state="diverged", steps=20)
    runs = list_runs([tmp_path / "runs"])
    never = compare(runs, levels={"train/accuracy": [0.5]}).rows[1].levels[0]
    assert never.text("steps") == ">100"
    assert str(never.faster["steps"]) == "<×0.5"
    turned = compare(runs, baseline="b", levels={"train/accuracy": [0.5]})
    assert str(turned.rows[0].levels[0].faster["steps"]) == ">×2.0"
    both = compare(runs, levels={"train/accuracy": [2.0]}).rows[1].levels[0]
    assert str(both.faster["steps"]) == "-"
    some = compare(runs, levels={"train/accuracy": [0.2]}).rows[1].levels[0]
    assert some.text("steps") == "50 (1 of 2)"
    assert any("seed 1 diverged" in note for note in turned.notes)
    assert math.isnan(time_to_level(runs[0], "no/such", 0.5).at("steps"))


def test_what_is_never_compared(make_run: MakeRun, tmp_path: Path) -> None:
    train(make_run(variant="a"), 1.0)
    train(make_run(variant="ce", method="ce"), 2.0)
    train(make_run(variant="gpu"), 2.0, device="NVIDIA H100 (cuda:1)")
    train(make_run(variant="d1", loss="distance"), 2.0)
    (other,) = [make_run(variant="other")]
    text = (other / "preset.toml").read_text().replace('"digits"', '"cifar10"')
    (other / "preset.toml").write_text(text)
    train(other, 2.0)
    found = compare(list_runs([tmp_path / "runs"]), baseline="a")
    rows = {row.runs[0].variant: row for row in found.rows}
    faster = {name: [str(level.faster["steps"]) for level in row.levels] for name, row in rows.items()}
    assert faster["ce"] == ["×1.9 (1 seed)", "other loss"]
    assert faster["d1"] == ["×1.9 (1 seed)", "other loss"]
    assert faster["gpu"] == ["×1.9 (1 seed)", "×2.0 (1 seed)"]
    assert faster["other"] == ["other data", "other data"]
    assert str(rows["gpu"].levels[0].faster["seconds"]) == "other device"
    assert [rows[name].kind for name in ("a", "ce", "d1")] == ["c", "e", "d"]
    document = json.loads(json.dumps(to_json(found)))
    assert document["baseline"] == "group/study/a"
    assert document["rows"][0]["levels"][0]["steps"] == 50.0
    assert device_kind("NVIDIA H100 (cuda:1)") == device_kind("NVIDIA H100 (cuda:0)") == "nvidia h100"
    assert device_kind("cuda:1") == "cuda"


def test_bad_choices(make_run: MakeRun, tmp_path: Path) -> None:
    make_run()
    with pytest.raises(UsageError, match="nothing to compare"):
        compare([])
    with pytest.raises(UsageError, match="is none of the compared"):
        compare(list_runs([tmp_path / "runs"]), baseline="x")


def test_numbers_too_large_for_a_float_are_left_out(make_run: MakeRun, tmp_path: Path) -> None:
    """Presets of others may hold anything: a level and a batch size of 400 digits."""
    folder = make_run()
    train(folder, 1.0)
    text = (folder / "preset.toml").read_text()
    huge = "9" * 400
    (folder / "preset.toml").write_text(
        text.replace("[0.5]", f"[{huge}, 0.5]").replace("[train]", f"[train]\nbatch_size = {huge}")
    )
    (run,) = list_runs([tmp_path / "runs"])
    assert levels_of([run]) == {"train/accuracy": [0.5], "train/loss": [0.5]}
    x, values = axis_values(run, "train/loss", "images")
    assert len(x) == len(values) == 51


def test_seconds_on_a_shared_gpu_are_not_compared(make_run: MakeRun, tmp_path: Path) -> None:
    train(make_run(variant="a"), 1.0, device="H100 (cuda:0)")
    folder = make_run(variant="b")
    train(folder, 2.0, device="H100 (cuda:1)")
    source = json.loads((folder / "source.json").read_text())
    (folder / "source.json").write_text(json.dumps(source | {"shared_gpu": True}))
    found = compare(list_runs([tmp_path / "runs"]))
    level = found.rows[1].levels[0]
    assert level.faster["seconds"].note == "shared GPU"
    assert level.faster["epochs"].ratio == pytest.approx(2.0, rel=0.1)
    assert any("did not have its GPU alone" in note for note in found.notes)


def test_a_baseline_stuck_at_its_trivial_loss_is_none(make_run: MakeRun, tmp_path: Path) -> None:
    """At the loss that its run folder records for the best constant answer, and not while it may still learn."""
    for variant, speed, state in (("a", 0.0, "finished"), ("b", 1.0, "finished"), ("young", 0.0, "stopped")):
        folder = make_run(variant=variant)
        train(folder, speed, state=state)
        source = json.loads((folder / "source.json").read_text())
        (folder / "source.json").write_text(json.dumps(source | {"trivial": {"chance": 0.0, "loss": 1.0}}))
    runs = list_runs([tmp_path / "runs"])
    found = compare(runs[:2], levels={"train/accuracy": [0.5]})
    assert {speed.note for speed in found.rows[1].levels[0].faster.values()} == {"no baseline"}
    assert [one["verdict"] for one in to_json(found)["verdicts"]] == ["no baseline"]
    stuck = "is stuck at its trivial loss, 1 where the best constant answer has 1: no speed-up against it"
    assert [note for note in found.notes if "stuck" in note] == [f"{runs[0].label} {stuck}"]
    others = (compare(runs[:2], baseline="b"), compare(runs[1:], baseline="young"))
    assert not any("stuck" in note for one in others for note in one.notes)


def told_compiled(folder: Path, compiled: bool, why: str | None = None) -> None:
    source = json.loads((folder / "source.json").read_text())
    (folder / "source.json").write_text(json.dumps(source | {"compiled": compiled, "eager": why}))


def test_seconds_of_a_compiled_and_an_uncompiled_run_are_not_compared(make_run: MakeRun, tmp_path: Path) -> None:
    for variant, length, why in (("a", 1.0, None), ("b", 2.0, "torch.compile failed: no compiler"), ("c", 2.0, None)):
        folder = make_run(variant=variant)
        train(folder, length, device="H100")
        told_compiled(folder, why is None, why)
    found = compare(list_runs([tmp_path / "runs"]))
    a, b, c = found.rows
    assert b.levels[0].faster["seconds"].note == "not compiled alike"
    assert b.levels[0].faster["epochs"].ratio == pytest.approx(2.0, rel=0.1)
    assert c.levels[0].faster["seconds"].ratio is not None
    (note,) = (note for note in found.notes if "compiled" in note)
    assert note == "b was not compiled, a was compiled: no seconds (torch.compile failed: no compiler)"
    assert [row.compiled for row in (a, b, c)] == ["yes", "no", "yes"]


def test_a_choice_of_compiling_is_compared_by_its_seconds(make_run: MakeRun, tmp_path: Path) -> None:
    """Where the settings say that one run is compiled and the other is not, its seconds are the matter."""
    for variant, choice in (("a", "on"), ("b", "off")):
        folder = make_run(variant=variant)
        preset = folder / "preset.toml"
        preset.write_text(preset.read_text().replace("[train]", f'[train]\ncompile = "{choice}"'))
        train(folder, 1.0 if choice == "on" else 2.0, device="H100")
        told_compiled(folder, choice == "on")
    found = compare(list_runs([tmp_path / "runs"]))
    assert found.rows[1].levels[0].faster["seconds"].ratio is not None
    assert not any("compiled" in note for note in found.notes)


def test_seeds_of_which_one_was_not_compiled_give_no_seconds(make_run: MakeRun, tmp_path: Path) -> None:
    for variant, seed, compiled in (("a", 0, True), ("a", 1, True), ("b", 0, True), ("b", 1, False)):
        folder = make_run(variant=variant, seed=seed)
        train(folder, 1.0, device="H100")
        told_compiled(folder, compiled)
    found = compare(list_runs([tmp_path / "runs"]))
    assert found.rows[1].compiled == "mixed"
    assert found.rows[1].levels[0].faster["seconds"].note == "not compiled alike"


def test_a_level_held_before_the_first_step_gives_no_ratio_and_earlier_stages_are_named(
    make_run: MakeRun, tmp_path: Path
) -> None:
    train(make_run(variant="a"), 1.0)
    folder = make_run(variant="b", extra='start_from = "group/study/ssl/seed-0"')
    with RunWriter.open(folder, device="cpu", total_steps=10, echo=False) as writer:
        # The line before the first step comes some milliseconds after the clock's start.
        writer.metrics(0, 0, 0.004, {"train/accuracy": 0.9})
        writer.metrics(10, 1, 5.0, {"train/accuracy": 1.0})
        writer.finish("finished", 0)
    found = compare(list_runs([tmp_path / "runs"]))
    level = found.rows[1].levels[0]
    assert level.text("steps") == "0"
    assert {unit: level.faster[unit].ratio for unit in ("steps", "seconds")} == {"steps": None, "seconds": None}
    assert any("b builds on group/study/ssl/seed-0: what that took is not counted" in note for note in found.notes)


def test_a_finished_run_without_metrics_is_named(make_run: MakeRun, tmp_path: Path) -> None:
    for variant in ("a", "b"):
        with RunWriter.open(make_run(variant=variant), device="cpu", total_steps=9, echo=False) as writer:
            writer.metrics(9, 1.0, 1.0, {"train/loss": 0.5, "train/accuracy": 0.9})
            writer.finish("finished", 0)
    runs = tmp_path / "runs"
    next(runs.rglob("b/seed-0/metrics.jsonl")).unlink()
    found = compare(list_runs([runs]), levels={"train/accuracy": [0.5]})
    assert "b: no metrics of seed 0: decides nothing" in found.notes
