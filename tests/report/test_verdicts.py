"""Verdicts as a reviewer would sign them: each case is a study of real run folders, reported, and computed again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from report_studies import call, make_study
from test_report import part, row
from typer.testing import CliRunner

from lsc_engine.analysis.claims import ClaimVerdict
from lsc_engine.analysis.study_values import VALUES, from_csv
from lsc_engine.cli import build_app
from lsc_engine.common.errors import LscError
from lsc_engine.config.schema import RunConfig
from lsc_engine.report.check import check_reports
from lsc_engine.report.report import PAGE, write_report
from lsc_engine.runs.folder.writer import RunWriter, create_run
from lsc_engine.runs.read.studies import find_study
from lsc_engine.studies.plan import plan_study

pytestmark = pytest.mark.usefixtures("svg_only")
HEAD = """
title = "two methods"
seeds = [0, 1, 2]
[data]
dataset = "digits"
labels = "{labels}"
{data}
[model]
name = "mlp"
dim = 48
width = 0.1
[target]
method = "lsc"
system = "A"
[train]
duration = "10 epochs"
[compare]
baseline = "old"
levels = {{ "train/accuracy" = {levels} }}
{tune}
[[claims]]
text = "it is so"
variant = "{variant}"
{claim}
[[variants]]
name = "old"
target.system = "V21"
[[variants]]
name = "new"
"""
Curve = Callable[[str, int, float], tuple[float, float]]


def preset(
    claim: str, *, variant: str = "new", levels: str = "[0.5]", data: str = "", tune: str = "", labels: str = "unique"
) -> str:
    """Two methods and one claim of `new`."""
    return HEAD.format(claim=claim, variant=variant, levels=levels, data=data, tune=tune, labels=labels)


def judged(tmp_path: Path, text: str, curve: Curve, ends: Mapping[tuple[str, int], str] | None = None) -> ClaimVerdict:
    """The claim as the report has it; what stands in the report is computed again from its values."""
    make_study(tmp_path / "runs", text, name="two", curve=curve, ends=ends)
    return reported(tmp_path)


def reported(tmp_path: Path) -> ClaimVerdict:
    out = tmp_path / "out" / "two"
    (one,) = write_report(find_study("two", [tmp_path / "runs"]), out).verdicts
    checked = check_reports(tmp_path / "out")
    assert checked.faults == ()
    assert checked.verdicts == 1
    verdict = part((out / PAGE).read_text(), "Verdict")
    assert row(verdict, "it is so")[2].replace("\\", "") == (one.accuracy or "-")
    return one


def linear(new: float, old: float = 10.0) -> Curve:
    """Accuracy rises to 1 within so many epochs."""
    return lambda variant, seed, epoch: (min(1.0, epoch / (new if variant == "new" else old)), 1.0 - 0.05 * epoch)


FASTER = 'is = "faster"'


def test_faster_in_every_seed_holds(tmp_path: Path) -> None:
    one = judged(tmp_path, preset(FASTER), linear(4))
    assert one.accuracy == "holds, 3 of 3 seeds"
    assert one.details == ("×2.5 (2.5-2.5) in epochs to train/accuracy 0.5",)


@pytest.mark.parametrize("state", ["stopped", "failed", "running"])
def test_an_interrupted_baseline_decides_nothing(tmp_path: Path, state: str) -> None:
    ends = {("old", seed): state for seed in range(3)}
    one = judged(tmp_path, preset(FASTER), linear(4), ends)
    assert one.accuracy == "open, so far: holds, 3 of 3 seeds"
    assert one.short == "by accuracy: open"


def test_a_seed_that_was_never_started_leaves_the_claim_open(tmp_path: Path) -> None:
    make_study(tmp_path / "runs", preset(FASTER), name="two", curve=linear(4), leave_out=(("old", 1),))
    assert reported(tmp_path).accuracy == "open, so far: holds, 2 of 3 seeds"


@pytest.mark.parametrize(
    ("claim", "accuracy"),
    [
        ('is = "better"', "open, so far: holds, 2 of 2 seeds"),
        ('is = "similar"\nmargin = 0.1', "open, so far: holds, 2 of 2 seeds"),
        ('is = "works"\nthreshold = 0.5', "open, so far: holds, 2 of 2 seeds"),
        (FASTER, "open, so far: holds, 3 of 3 seeds"),
    ],
)
def test_every_kind_of_claim_has_a_verdict_so_far(tmp_path: Path, claim: str, accuracy: str) -> None:
    curve = linear(5, 12)
    assert judged(tmp_path, preset(claim), curve, {("new", 1): "stopped"}).accuracy == accuracy


@pytest.mark.parametrize(
    ("claim", "accuracy"),
    [
        (FASTER, "differs by seed, 2 of 3 seeds"),
        ('is = "better"', "differs by seed, 2 of 3 seeds"),
        ('is = "similar"', "differs by seed, 2 of 3 seeds"),
        ('is = "equal"\nmargin = 0.5', "differs by seed, 2 of 3 seeds"),
        ('is = "works"\nthreshold = 0.9', "differs by seed, 2 of 3 seeds"),
        ('is = "fails"\nthreshold = 0.9', "differs by seed, 1 of 3 seeds"),
    ],
)
def test_one_seed_diverged_of_three_counts_against(tmp_path: Path, claim: str, accuracy: str) -> None:
    assert judged(tmp_path, preset(claim), linear(4, 12), {("new", 2): "diverged"}).accuracy == accuracy


def test_a_diverged_baseline_never_arrives(tmp_path: Path) -> None:
    ends = {("old", seed): "diverged" for seed in range(3)}
    one = judged(tmp_path, preset(FASTER), linear(4), ends)
    assert one.accuracy == "holds, 3 of 3 seeds"
    assert one.details[0].startswith(">×")


@pytest.mark.parametrize(
    ("steps", "claim", "accuracy"),
    [
        ((-0.1, 0.0, 0.1), 'is = "similar"\nmargin = 0.05', "differs by seed, 2 of 3 seeds"),
        ((-0.1, 0.0, 0.1), 'is = "equal"\nmargin = 0.05', "differs by seed, 1 of 3 seeds"),
        ((0.1, 0.1, 0.1), 'is = "similar"\nmargin = 0.05', "holds, 3 of 3 seeds"),
        ((0.1, 0.1, 0.1), 'is = "equal"\nmargin = 0.05', "does not hold, 3 of 3 seeds"),
        ((-0.1, -0.2, -0.1), 'is = "similar"\nmargin = 0.05', "does not hold, 3 of 3 seeds"),
        ((-0.04, 0.02, 0.04), 'is = "equal"\nmargin = 0.05', "holds, 3 of 3 seeds"),
        ((0.01, 0.02, 0.01), 'is = "better"\nmargin = 0.05', "does not hold, 3 of 3 seeds"),
    ],
)
def test_equal_is_judged_in_every_seed(tmp_path: Path, steps: tuple[float, ...], claim: str, accuracy: str) -> None:
    def curve(variant: str, seed: int, epoch: float) -> tuple[float, float]:
        return 0.05 * epoch + (steps[seed] if variant == "new" else 0.0), 1.0

    claim += '\nmetric = "train/accuracy"'
    assert judged(tmp_path, preset(claim), curve).accuracy == accuracy


def test_two_classes_at_999_work_and_three_times_chance_is_no_measure(tmp_path: Path) -> None:
    def curve(variant: str, seed: int, epoch: float) -> tuple[float, float]:
        return (0.999 if variant == "new" else 0.6), 0.5

    text = preset('is = "works"\nthreshold = 0.9', data="classes = 2", labels="class")
    assert judged(tmp_path, text, curve).accuracy == "holds, 3 of 3 seeds"
    (tmp_path / "b").mkdir()
    text = preset('is = "works"\nthreshold = 0.9', data="classes = 2", labels="class", variant="old")
    one = judged(tmp_path / "b", text, curve)
    assert (one.accuracy, one.details) == ("does not hold, 3 of 3 seeds", ("train/accuracy 60 %, 60 %, 60 %",))
    (tmp_path / "c").mkdir()
    text = preset('is = "works"', data="classes = 2", labels="class")
    assert judged(tmp_path / "c", text, curve).accuracy == "open: the claim gives no threshold"


def test_a_level_that_both_hold_at_the_first_evaluation_is_not_resolved(tmp_path: Path) -> None:
    def curve(variant: str, seed: int, epoch: float) -> tuple[float, float]:
        return 0.9, 0.5

    one = judged(tmp_path, preset(FASTER), curve)
    assert one.accuracy == "not resolved: equal at the resolution of the evaluations"


def test_a_level_that_one_holds_at_its_first_evaluation_gives_a_bound(tmp_path: Path) -> None:
    one = judged(tmp_path, preset(FASTER), linear(1, 10))
    assert one.accuracy == "holds, 3 of 3 seeds"
    # The other is there at 5 epochs and was not at 4; this one at some time up to 1.
    assert one.details == (">×4.0 in epochs to train/accuracy 0.5",)


def test_a_curve_that_goes_over_and_back_is_not_there(tmp_path: Path) -> None:
    def curve(variant: str, seed: int, epoch: float) -> tuple[float, float]:
        return (0.6 if epoch == 2 else 0.3) if variant == "new" else epoch / 10, 0.5

    one = judged(tmp_path, preset(FASTER), curve)
    assert one.accuracy.startswith("not resolved")
    page = (tmp_path / "out/two" / PAGE).read_text()
    assert row(part(page, "Levels"), "new")[3] == ">10"
    assert "new was at train/accuracy 0.5 and lost it again, counted as not reached" in page
    (tmp_path / "b").mkdir()

    def back_later(variant: str, seed: int, epoch: float) -> tuple[float, float]:
        return (0.6 if epoch == 7 else 0.3) if variant == "new" else epoch / 10, 0.5

    assert judged(tmp_path / "b", preset(FASTER), back_later).accuracy == "does not hold, 3 of 3 seeds"


def test_a_tie_in_one_seed_is_neither_for_nor_against(tmp_path: Path) -> None:
    def curve(variant: str, seed: int, epoch: float) -> tuple[float, float]:
        return epoch / (10 if variant == "old" or seed == 1 else 4), 0.5

    one = judged(tmp_path, preset(FASTER), curve)
    assert one.accuracy == ("not resolved: equal at the resolution of the evaluations, ahead in 2 of 3 seeds")


def test_levels_differ_by_metric_and_number(tmp_path: Path) -> None:
    text = preset(FASTER).replace('"train/accuracy" = [0.5]', '"train/accuracy" = [0.5], "val/accuracy" = [0.5]')
    text = text.replace('labels = "unique"', 'labels = "class"')
    make_study(tmp_path / "runs", text, name="two", curve=linear(4))
    for seed in range(3):
        for variant, speed in (("new", 25), ("old", 12)):
            file = tmp_path / f"runs/two/{variant}/seed-{seed}/metrics.jsonl"
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            for line in lines:
                line["val/accuracy"] = line["epoch"] / speed
            file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    one = reported(tmp_path)
    # Ahead in training, behind on new images.
    assert one.accuracy == "differs by level"
    assert [detail.split(" to ")[1] for detail in one.details] == ["train/accuracy 0.5", "val/accuracy 0.5"]


ADAPTIVE = 'model.etf_layers = "adaptive"\nmodel.etf_threshold = 0.9\nmodel.etf_patience = 1'


@pytest.mark.parametrize(("fixed", "accuracy"), [((2, 0, 0), "open: no layer was fixed in 2 of 3 seeds of new"),
                                                 ((1, 1, 3), "holds, 3 of 3 seeds")])  # fmt: skip
def test_a_method_that_never_acted_is_not_judged(tmp_path: Path, fixed: tuple[int, ...], accuracy: str) -> None:
    text = preset('is = "similar"\nmargin = 0.5\nmetric = "train/accuracy"', labels="class")
    text = text.replace('name = "new"\n', f'name = "new"\n{ADAPTIVE}\n')
    make_study(tmp_path / "runs", text, name="two", curve=linear(8))
    for seed, count in enumerate(fixed):
        file = tmp_path / f"runs/two/new/seed-{seed}/metrics.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        lines[-1]["model/fixed_layers"] = count
        lines[0]["model/fixed_layers"] = 0
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert reported(tmp_path).accuracy == accuracy


# --- rates ------------------------------------------------------------------------------------------------------------

TUNE = '[tune]\n"optimizer.lr" = [1e-4, 3e-4, 1e-3]\nduration = "10 epochs"'


def with_tries(
    tmp_path: Path, epochs: Mapping[str, Mapping[float, float]], *, chosen: Mapping[str, float], levels: str = "[0.5]"
) -> ClaimVerdict:
    """A study whose variants reach full accuracy in so many epochs at each rate, tried with one seed, trained over
    three at the chosen rate."""
    (tmp_path / "two.toml").write_text(preset(FASTER, tune=TUNE, levels=levels))
    plan = plan_study(tmp_path / "two.toml")
    assert plan.tune is not None
    extra = {
        name: [{"optimizer.lr": rate} for rate in rates if rate not in (1e-4, 3e-4, 1e-3)]
        for name, rates in epochs.items()
    }
    grown = plan.grown({name: points for name, points in extra.items() if points})
    assert grown.tune is not None
    tuned = plan.tuned({name: [{"optimizer.lr": rate}] for name, rate in chosen.items()})
    from lsc_engine.studies.prepare import write_study

    root = tmp_path / "runs"
    write_study(root, "two", plan.to_toml())
    for attempt in grown.tune.runs:
        train(root, attempt.config, epochs[attempt.of][attempt.values["optimizer.lr"]])
    for run in tuned.runs:
        train(root, run.config, epochs[run.config.variant][run.config.optimizer.lr])
    return reported(tmp_path)


def train(root: Path, config: RunConfig, epochs: float) -> None:
    folder = create_run(root / config.run_id, config, {})
    with RunWriter.open(folder, device="cpu", total_steps=70, echo=False) as writer:
        for epoch in range(1, 11):
            values = {"train/accuracy": min(1.0, epoch / epochs), "train/loss": 1 - 0.05 * epoch}
            writer.metrics(epoch * 7, float(epoch), epoch * 0.5, values)
        writer.finish("finished", 0)


def test_a_claim_that_a_common_rate_reverses_depends_on_the_rate(tmp_path: Path) -> None:
    one = with_tries(
        tmp_path,
        {"new": {1e-4: 24, 3e-4: 4, 1e-3: 18}, "old": {1e-4: 12, 3e-4: 8, 1e-3: 19}},
        chosen={"new": 3e-4, "old": 3e-4},
    )
    assert one.accuracy == "depends on the rate: ahead at the best of each, behind at lr = 0.0001"
    assert one.short.startswith("by accuracy: depends on the rate") or one.short == "depends on the rate"
    page = (tmp_path / "out/two" / PAGE).read_text()
    rates = part(page, "Learning rates")
    assert row(rates, "new")[1:4] == [">10", "**2**", "9"]
    assert row(rates, "old")[1:4] == ["6", "**4**", "10"]


def test_a_claim_that_every_common_rate_bears_out_holds(tmp_path: Path) -> None:
    one = with_tries(
        tmp_path,
        {"new": {1e-4: 12, 3e-4: 4, 1e-3: 10}, "old": {1e-4: 16, 3e-4: 8, 1e-3: 19}},
        chosen={"new": 3e-4, "old": 3e-4},
    )
    assert one.accuracy == "holds, 3 of 3 seeds"
    assert "both at lr = 0.001: ×2.0 (1 seed)" in one.details


def test_the_best_at_the_edge_of_its_grid_is_marked(tmp_path: Path) -> None:
    grown = {1e-4: 20, 3e-4: 16, 1e-3: 8, 3e-3: 6, 1e-2: 4}
    one = with_tries(tmp_path, {"new": grown, "old": {1e-4: 16, 3e-4: 10, 1e-3: 19}}, chosen={"new": 1e-2, "old": 3e-4})
    assert one.accuracy.endswith(", edge of the grid")
    assert any(detail == "best at the edge of the grid: new: lr = 0.01" for detail in one.details)
    assert row(part((tmp_path / "out/two" / PAGE).read_text(), "Learning rates"), "new")[-1] == "edge of the grid"


# --- seconds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("load", "mark"),
    [({"load": 7.5, "peak": 8.0}, "busy machine"), ({"load": 1.5, "gpu_throttled": 0.3}, "throttled")],
)
def test_seconds_of_a_busy_or_slowed_machine_are_marked_and_not_compared(
    tmp_path: Path, load: dict[str, float], mark: str
) -> None:
    make_study(tmp_path / "runs", preset(FASTER), name="two", curve=linear(4))
    source = tmp_path / "runs/two/new/seed-1/source.json"
    busy = {"processors": 2, "waited": 0.0, "throttled": None, **load}
    source.write_text(json.dumps(json.loads(source.read_text()) | {"load": busy}))
    reported(tmp_path)
    levels = part((tmp_path / "out/two" / PAGE).read_text(), "Levels")
    assert row(levels, "new")[1:] == ["14", "×2.5 (2.5-2.5)", "2", "×2.5 (2.5-2.5)", "1", mark]
    cost = part((tmp_path / "out/two" / PAGE).read_text(), "Cost")
    assert row(cost, "new")[3] == f"1 000 ({mark})"
    assert row(cost, "old")[3] == "1 000"


def test_seconds_that_differ_between_equal_runs_are_not_compared(tmp_path: Path) -> None:
    make_study(tmp_path / "runs", preset(FASTER), name="two", curve=linear(4))
    file = tmp_path / "runs/two/old/seed-2/metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(line | {"time": 4.2 * line["time"]}) + "\n" for line in lines))
    reported(tmp_path)
    levels = part((tmp_path / "out/two" / PAGE).read_text(), "Levels")
    assert row(levels, "new")[-1] == "unsteady seconds"


# --- computed again ---------------------------------------------------------------------------------------------------


def test_check_finds_a_verdict_that_the_values_do_not_bear_out(tmp_path: Path) -> None:
    judged(tmp_path, preset(FASTER), linear(4))
    page = tmp_path / "out/two" / PAGE
    page.write_text(page.read_text().replace("holds, 3 of 3 seeds", "does not hold, 3 of 3 seeds", 1))
    done = CliRunner().invoke(build_app(), ["report", "--check", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert "two: Verdict: the page says" in done.stdout
    assert "differences: 2" in done.stdout


def test_check_finds_values_that_were_changed_or_are_not_there(tmp_path: Path) -> None:
    judged(tmp_path, preset(FASTER), linear(4))
    values = tmp_path / "out/two" / VALUES
    text = values.read_text()
    lines = text.splitlines(keepends=True)
    values.write_text("".join(line for line in lines if not line.startswith("point,run,new,1")))
    assert any("Verdict" in fault for fault in check_reports(tmp_path / "out").faults)
    values.write_text(text.replace("point,", "pint,", 1))
    assert check_reports(tmp_path / "out").faults[0].startswith("two: values.csv cannot be read")
    values.unlink()
    document = CliRunner().invoke(build_app(), ["report", "--check", str(tmp_path / "out"), "--json"])
    assert document.exit_code == 1
    assert "values.csv is missing" in json.loads(document.stdout)["faults"][0]
    with pytest.raises(LscError):
        from_csv("a,b\n")


def test_check_passes_on_what_was_just_written(tmp_path: Path) -> None:
    judged(tmp_path, preset(FASTER), linear(4))
    assert "differences: 0" in call("report", "--check", tmp_path / "out")
