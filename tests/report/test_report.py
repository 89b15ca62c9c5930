"""The report of a study: verdicts, the paper's figures beside ours, what is missing; the index of all."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from report_studies import PRESET, call, lsc, make_study, stuck

from lsc_engine.analysis.claims import judge
from lsc_engine.analysis.compare import Row, TrivialBaseline
from lsc_engine.analysis.saved_views import SavedView, save_view
from lsc_engine.analysis.study_values import from_csv
from lsc_engine.common.errors import UsageError
from lsc_engine.report.check import check_reports
from lsc_engine.report.report import PAGE, write_index, write_report
from lsc_engine.report.study_data import collect, read_back, values_of
from lsc_engine.runs.read.run import open_run
from lsc_engine.runs.read.studies import find_study, list_studies
from lsc_engine.studies.plan import plan_study
from lsc_engine.studies.prepare import plan_actions
from lsc_engine.training.embedding_metrics import BINS, DISTANT, VOTERS
from lsc_engine.training.trained_run import constant_loss

pytestmark = pytest.mark.usefixtures("svg_only")


def page_of(root: Path, out: Path, name: str = "paper/fig9") -> str:
    write_report(find_study(name, [root]), out)
    return (out / PAGE).read_text()


def part(page: str, title: str) -> str:
    """The section under a heading."""
    found = re.search(rf"^## {title}$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, f"no section {title}"
    return found[1]


def row(text: str, first: str) -> list[str]:
    """The cells of the table line that begins with `first`."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {first}"))
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_page_has_the_claim_the_papers_figures_and_two_verdicts(tmp_path: Path) -> None:
    make_study(tmp_path / "runs")
    page = page_of(tmp_path / "runs", tmp_path / "out")
    verdict = part(page, "Verdict")
    assert row(verdict, r"n\_min is faster")[1:] == [
        "n min faster than n=48", "holds, 3 of 3 seeds", "holds, 3 of 3 seeds",
        "×2.0 (2.0-2.0) in epochs to train/accuracy 0.9; ×1.7 (1.7-1.7) in epochs to train/loss 0.6",
    ]  # fmt: skip
    assert row(verdict, "both end alike")[2:4] == ["holds, 3 of 3 seeds", "holds, 3 of 3 seeds"]
    assert row(verdict, "CE is better")[3] == "not compared: the losses are of different kinds"
    assert row(verdict, "CE fails")[2:4] == ["does not hold, 3 of 3 seeds", "-"]
    results = part(page, "Results")
    assert row(results, "n min")[1:5] == ["3", r"91.4\|", "100.0 ± 0.0", "0.1 ± 0 c"]
    assert row(results, "ce")[-1] == "7.494"  # ln 1797
    assert row(part(page, "Vectors"), "n min")[1:5] == ["A", "42", "1 806", "99.5 %"]
    settings = part(page, "Settings")
    assert row(settings, "`model.dim`")[1:] == ["48 (n=48, ce); 42 (n min)", "paper"]
    assert row(settings, "`optimizer.lr`")[2] == "inferred: from the text"
    assert row(settings, "`data.dataset`")[2] == "ours"
    assert row(settings, "`optimizer.name`")[2] == "ours: default"
    assert "## Missing" not in page


def test_what_embeddings_are_worth_stands_by_variant_and_is_checked(tmp_path: Path) -> None:
    def worth(variant: str, seed: int) -> dict[str, float]:
        return {"eval/knn": 0.9 + 0.01 * seed, "ood/fpr95_knn": 0.25} if variant != "ce" else {"eval/ece": 0.031}

    make_study(tmp_path / "runs", at_end=worth)
    page = page_of(tmp_path / "runs", tmp_path / "out")
    text = part(page, "Evaluation")
    assert row(text, "variant") == ["variant", "eval/knn %", "eval/ece %", r"ood/fpr95\_knn %"]
    assert row(text, "n min")[1:] == ["91.0 ± 1.0", "-", "25.0 ± 0.0"]
    assert row(text, "ce")[1:] == ["-", "3.1 ± 0.0", "-"]
    assert f"{VOTERS} nearest training images" in text
    assert f"{DISTANT}th nearest" in text
    assert f"{BINS} bins" in text
    assert "recall" not in text
    assert page.index("## Results") < page.index("## Evaluation") < page.index("## Levels")
    points = from_csv((tmp_path / "out/values.csv").read_text()).runs
    assert sorted(float(run.history("eval/knn")[1][-1]) for run in points if run.variant == "n_min") == [
        0.9,
        0.91,
        0.92,
    ]
    assert not check_reports(tmp_path / "out").faults
    (tmp_path / "out" / PAGE).write_text(page.replace("91.0 ± 1.0", "92.0 ± 1.0"))
    assert "91.0" in check_reports(tmp_path / "out").faults[0]


def test_page_names_whose_a_claim_is(tmp_path: Path) -> None:
    said = PRESET.replace('is = "faster"', 'is = "faster"\nsource = \'paper: Sec. 5.4, "considerably faster"\'')
    said = said.replace('variant = "ce"\nis = "fails"', 'variant = "ce"\nis = "fails"\nsource = "ours: a control"')
    make_study(tmp_path / "runs", said.replace("[provenance]", '[provenance]\n"claim" = "paper: abstract"'))
    page = page_of(tmp_path / "runs", tmp_path / "out")
    assert "- Whose: paper: abstract" in page
    verdict = part(page, "Verdict")
    assert row(verdict, "claim")[1] == "whose"
    assert row(verdict, r"n\_min is faster")[1:4] == [
        'paper: Sec. 5.4, "considerably faster"', "n min faster than n=48", "holds, 3 of 3 seeds",
    ]  # fmt: skip
    assert [row(verdict, text)[1] for text in ("both end alike", "CE fails")] == ["-", "ours: a control"]


@pytest.mark.parametrize(("depth", "word"), [(0.3, "holds"), (0.0, "does not hold")])
def test_the_lowest_value_on_the_way_is_judged(tmp_path: Path, depth: float, word: str) -> None:
    """Both end alike; the baseline falls by `depth` in epoch 4."""

    def dipping(variant: str, seed: int, epoch: float) -> tuple[float, float]:
        return 0.9 - (depth if variant == "n=48" and epoch == 4 else 0.0) + 0.001 * seed, 0.2

    lowest = 'is = "better"\nmetric = "train/accuracy/lowest"\nmargin = 0.1'
    make_study(tmp_path / "runs", PRESET.replace('is = "faster"', lowest), curve=dipping)
    values = values_of(collect(find_study("paper/fig9", [tmp_path / "runs"])))
    (found,) = [one for one in judge(read_back(values)[0]) if "n_min" in one.text]
    assert found.accuracy.startswith(word)
    assert f"{100 * depth:+.3g} points" in found.details[0]


def test_same_runs_give_the_same_bytes_and_figures_are_small(tmp_path: Path) -> None:
    make_study(tmp_path / "runs")
    study = find_study("fig9", [tmp_path / "runs"])
    one, two = (write_report(study, tmp_path / name) for name in ("one", "two"))
    assert [f.name for f in one.files] == [f.name for f in two.files]
    for a, b in zip(one.files, two.files, strict=True):
        assert a.read_bytes() == b.read_bytes(), a.name
    drawn = [f for f in one.files if f.suffix == ".svg"]
    assert {f.stem for f in drawn} == {"train-accuracy", "train-loss-c", "train-loss-e"}
    assert all(f.stat().st_size < 20_000 for f in drawn)
    page = (tmp_path / "one" / PAGE).read_text()
    assert all(f"]({f.name})" in page for f in drawn)
    points = [line for line in (tmp_path / "one/values.csv").read_text().splitlines() if line.startswith("point,")]
    assert len(points) == 3 * 3 * 10


SPEEDY = """[[claims]]
text = "n min sees more images than CE"
variant = "n_min"
against = "ce"
is = "better"
metric = "speed/images_per_second"
margin = 4
[[claims]]
text = "CE keeps up"
variant = "ce"
is = "similar"
metric = "speed/images_per_second"
margin = 0.1
[[claims]]
text = "n min before CE"
variant = "n_min"
against = "ce"
is = "faster"
[[variants]]
name = "n=48\""""


def test_speeds_are_shown_as_ratios_and_chance_by_variant(tmp_path: Path) -> None:
    text = PRESET.replace('[[variants]]\nname = "n=48"', SPEEDY).replace(
        'label = "n min"', 'label = "n min"\ndata.classes = 500'
    )
    make_study(tmp_path / "runs", text.replace(', "train/loss" = [0.6]', ""))
    page = page_of(tmp_path / "runs", tmp_path / "out")
    verdict = part(page, "Verdict")
    assert row(verdict, "n min sees")[2:] == [
        "holds, 3 of 3 seeds, by speed", "-", r"speed/images\_per\_second ×10 (10-10), wanted: above ×5",
    ]  # fmt: skip
    assert row(verdict, "CE keeps up")[2] == "does not hold, 3 of 3 seeds, by speed"
    # No level of a loss is fixed, and none could be: the kinds differ.
    assert row(verdict, "n min before CE")[3] == "not compared: the losses are of different kinds"
    assert "- Chance is 0.0556 % for n=48, ce; 0.2 % for n min." in part(page, "Results")


def test_a_stuck_baseline_is_marked_and_is_none(tmp_path: Path) -> None:
    text = PRESET.replace('baseline = "n=48"', 'baseline = "ce"').replace(
        'variant = "ce"\nis = "better"', 'variant = "n=48"\nis = "better"'
    )
    make_study(tmp_path / "runs", text, curve=stuck)
    page = page_of(tmp_path / "runs", tmp_path / "out")
    verdict = part(page, "Verdict")
    assert "open: ce is stuck at its trivial loss, 7.494 where the best constant answer has 7.494" in verdict
    assert row(verdict, r"n\_min is faster")[2].startswith("open")
    assert row(verdict, "CE fails")[2:4] == ["holds, 3 of 3 seeds", "-"]
    assert "no speed-up against it is given" in part(page, "Levels")
    assert "×" not in part(page, "Levels")


def test_unfinished_diverged_and_mixed_runs_are_named_and_the_rest_reported(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    ends = {("n_min", 1): "diverged", ("n=48", 2): "running"}
    make_study(root, ends=ends, leave_out=(("ce", 0), ("ce", 1), ("ce", 2)))
    other = root / "paper/fig9/n_min/seed-2/preset.toml"
    other.write_text(other.read_text().replace("batch_size = 256", "batch_size = 128"))
    (root / "paper/fig9/n=48/seed-0/preset.toml").write_text("[[[")
    missing = json.loads(call("report", "fig9", "--runs-dir", root, "--json"))["missing"]
    for words in (
        "ce: no run of seeds 0, 1, 2",
        "paper/fig9/n_min/seed-2 is left out, it has other settings: train.batch_size is 128, not 256",
        "paper/fig9/n=48/seed-0 is left out: ",
        "n min: seed 1 diverged",
        "n=48: seed 2 ",
    ):
        assert any(words in sentence for sentence in missing), (words, missing)
    page = (root / "paper/fig9/report" / PAGE).read_text()
    assert row(part(page, "Results"), "n min")[1] == "1 of 2"
    assert row(part(page, "Verdict"), "CE fails")[2] == "open: ce has no runs"


def test_without_its_preset_a_study_is_judged_by_its_baseline(tmp_path: Path) -> None:
    make_study(tmp_path / "runs")
    (tmp_path / "runs/.studies/paper/fig9.toml").unlink()
    material = collect(find_study("fig9", [tmp_path / "runs"]))
    found, _ = read_back(values_of(material))
    assert [(one.result, one.variant) for one in judge(found)] == [("faster", "ce"), ("faster", "n min")]
    assert "fig9.toml is not there" in material.missing[0]


def test_without_claims_every_planned_variant_is_judged_against_the_baseline(tmp_path: Path) -> None:
    text = re.sub(r"\[\[claims\]\].*?(?=\[\[variants)", "", PRESET, flags=re.DOTALL)
    for left_out, named in (("ce", ["n min", "ce"]), ("n=48", ["n min", "ce"])):
        root = tmp_path / left_out
        make_study(root, text, leave_out=[(left_out, seed) for seed in range(3)])
        found, _ = read_back(values_of(collect(find_study("fig9", [root]))))
        verdicts = {one.variant: (one.against, one.accuracy) for one in judge(found)}
        assert list(verdicts) == named
        assert verdicts["ce"] == ("n=48", f"open: {left_out} has no runs")


def test_names_of_hostile_runs_are_no_markup(tmp_path: Path) -> None:
    text = PRESET.replace('label = "n min"', 'label = "<script>|x|[a](b)"')
    make_study(tmp_path / "runs", text)
    page = page_of(tmp_path / "runs", tmp_path / "out")
    assert "<script>" not in page
    assert r"&lt;script>\|x\|\[a\](b)" in page


def test_unknown_studies_and_wrong_words_are_refused(tmp_path: Path) -> None:
    make_study(tmp_path / "runs")
    with pytest.raises(UsageError, match='did you mean "fig9"'):
        find_study("fig99", [tmp_path / "runs"])
    done = lsc("report", "fig99", "--runs-dir", str(tmp_path / "runs"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "fig9" in done.stderr
    for words in ((), ("fig9", "--all")):
        with pytest.raises(UsageError, match="or give --all for every one of the runs folder, not both"):
            call("report", *words, "--runs-dir", tmp_path / "runs")


def test_a_page_of_another_hand_is_kept(tmp_path: Path) -> None:
    make_study(tmp_path / "runs")
    (tmp_path / PAGE).write_text("mine")
    with pytest.raises(UsageError, match="not overwritten"):
        write_report(find_study("fig9", [tmp_path / "runs"]), tmp_path)
    assert (tmp_path / PAGE).read_text() == "mine"
    assert not (tmp_path / "runs.csv").exists()


def test_index_links_every_study(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    make_study(root)
    make_study(root, name="other", ends={("n_min", 0): "failed"})
    studies = list_studies([root])
    assert [study.name for study in studies] == ["other", "paper/fig9"]
    written = [write_report(study, tmp_path / "docs" / study.name) for study in studies]
    text = write_index(written, tmp_path / "docs").read_text()
    assert "(paper/fig9/report.md)" in text
    assert "(other/report.md)" in text
    assert row(text, r"[paper/fig9]".replace("[", r"["))[-3:-1] == [r"n\_min is faster", "holds"]


def test_trained_study_shows_tries_stages_and_cost(trained: Path, tmp_path: Path) -> None:
    made = write_report(find_study("means", [trained]), tmp_path)
    page = (tmp_path / PAGE).read_text()
    assert made.missing == []
    tries = part(page, "Learning rates")
    assert "Epochs to **train/accuracy 30 %**" in tries
    assert tries.count("**") == 2 + 2 * 3
    assert row(tries, "variant")[1:3] == ["lr = 0.001", "lr = 0.01"]
    cost = part(page, "Cost")
    assert row(cost, "means")[4:6] == ["ce", "138"]
    assert "With the stages before counted" in cost
    vectors = row(part(page, "Vectors"), "means")
    assert vectors[1] == "embeddings:@ce"
    assert vectors[5].endswith("°")
    # The same command again finds all of it done, though seeds take the class means of runs of their own.
    rates = {run.variant: run.config["optimizer"]["lr"] for run in find_study("means", [trained]).runs}
    plan = plan_study(trained.parent / "means.toml").tuned(
        {name: [{"optimizer.lr": rate}] for name, rate in rates.items()}
    )
    assert {run.action for run in plan_actions(plan, trained)} == {"done"}


def test_constant_loss_of_cosine_is_one_minus_the_mean_centre(trained: Path) -> None:
    import torch

    from lsc_engine.config.load import load_run_config
    from lsc_engine.heads.build import build_head
    from lsc_engine.heads.lsc import LscHead

    run = open_run("means/A/seed-0", [trained])
    config = load_run_config(run.path / "preset.toml")
    found = constant_loss(config, run, 10, None)
    # Comparisons, which load no torch, read it in the run folder.
    assert run.source["trivial"] == {"chance": 0.1, "loss": found}
    head = build_head(config, classes=10, dim=3, seed=0)
    assert isinstance(head, LscHead)
    # Any direction, tried blindly, does no better.
    tried = torch.randn(4096, 3, generator=torch.Generator().manual_seed(0))
    target = head.target(torch.arange(10))
    losses = torch.stack([head.losses(z.expand(10, 3), target).mean() for z in tried])
    assert found is not None
    assert losses.min() >= found - 1e-6
    assert losses.min() < found + 0.01


def test_constant_loss_of_distance_is_found_by_search(trained: Path) -> None:
    from lsc_engine.config.load import load_run_config

    run = open_run("means/A/seed-0", [trained])
    config = load_run_config(run.path / "preset.toml")
    target = config.target.model_copy(update={"system": "A", "loss": "distance", "radius": 1.0, "cluster_radius": 0.0})
    whole = config.model_copy(update={"target": target.model_copy(update={"order": "sequential"})})
    # All 12 roots: their mean is 0, every centre is 1 away, and (7) is e - 1.
    found = constant_loss(whole, run, 12, None)
    assert found == pytest.approx(1.71828, abs=1e-3)


def test_floor_thresholds() -> None:
    def stuck(loss: float, accuracy: float, chance: float | None = 0.1, constant: float | None = 2.0) -> str | None:
        last = {"train/loss": (loss, 0.0, 1), "train/accuracy": (accuracy, 0.0, 1)}
        return Row("A", "A", [], {}, last=last, trivial=TrivialBaseline(chance, constant)).at_trivial_loss

    assert stuck(2.0, 0.14) == "stuck at its trivial loss, 2 where the best constant answer has 2"
    assert stuck(2.0, 0.15) is None
    assert stuck(0.7, 0.999, 0.5, 0.7) is None
    assert stuck(1.985, 0.1)
    assert stuck(1.97, 0.1) is None
    assert stuck(float("nan"), 0.99) == "without a loss at its end, which is not finite"
    assert stuck(1.0, 0.1, None, None) is None


def test_saved_views_are_drawn_again(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    make_study(root)
    make_study(root, name="other")
    own = SavedView("fig9", study="paper/fig9", metric="train/loss", axis="step", levels={"train/loss": [0.4]})
    save_view(root, own)
    mixed = ("paper/fig9/n_min/seed-0", "other/n_min/seed-0", "gone/a/seed-0")
    save_view(root, SavedView("both", runs=mixed, baseline="other/n_min", levels={"train/accuracy": [0.7]}))
    written = write_report(find_study("paper/fig9", [root]), tmp_path / "out")
    assert "view-fig9.svg" in {path.name for path in written.files}
    assert "against steps" in part((tmp_path / "out" / PAGE).read_text(), "Curves")
    document = json.loads(call("report", "both", "--runs-dir", root, "--json"))
    assert document["missing"] == ["gone/a/seed-0 is not there"]
    page = Path(document["page"]).read_text()
    assert page.splitlines()[2] == "# View both"
    assert "**train/accuracy 70 %**" in part(page, "Levels")
    assert row(part(page, "Results"), "other n min (baseline)")[1] == "1"
    assert "view-both.svg" in page
