"""What a report measures on trained networks: databases of embeddings, and classes that were held out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from report_studies import lsc

from lsc_engine.config.load import check_text
from lsc_engine.report.sections.analyses import NEIGHBOURS, flags, roc, search, smaller
from lsc_engine.training.embedding_metrics import auroc

PRESET = """
title = "seven digits of ten"
seeds = [0, 1]
[data]
dataset = "digits"
classes = 7
[model]
name = "mlp"
width = 0.1
[target]
method = "lsc"
system = "V21"
[optimizer]
lr = 1e-2
[train]
duration = "3 epochs"
batch_size = 64
[analysis]
names = ["database", "novelty", "calibration"]
[[variants]]
name = "V21"
model.dim = 12
[[variants]]
name = "ce"
target.method = "ce"
model.dim = 12
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of two variants and two seeds."""
    folder = tmp_path_factory.mktemp("analyses")
    (folder / "seven.toml").write_text(PRESET)
    done = lsc("run", str(folder / "seven.toml"), "--runs-dir", str(folder / "runs"))
    assert done.returncode == 0, done.stderr
    told = lsc("report", "seven", "--runs-dir", str(folder / "runs"), "--out", str(folder / "out"))
    assert told.returncode == 0, told.stderr
    return folder / "out" / "report.md"


@pytest.mark.slow
def test_a_database_is_reported_with_its_bytes_and_its_recall(page: Path) -> None:
    text = page.read_text()
    (line,) = (line for line in text.splitlines() if line.startswith("| V21 |") and "48 B" in line)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    # 1 056 training images of the first seven digits, twelve floats each.
    assert cells[1:4] == ["12", "48 B", "50.7 kB"]
    one, ten, label = (float(cell.split()[0]) for cell in cells[4:7])
    assert 80 < one <= ten <= 100
    assert 80 < label <= 100
    assert cells[7] == "2"
    assert "208 queries in 1 056 of 1 056 embeddings" in text


def test_probabilities_are_reported_beside_the_share_that_is_right(page: Path) -> None:
    text = page.read_text()
    part = text.partition("## Calibration")[2].partition("\n## ")[0]
    lines = {line.split("|")[1].strip(): [cell.strip() for cell in line.strip("|").split("|")[1:]]
             for line in part.splitlines() if line.startswith(("| V21", "| ce"))}  # fmt: skip
    assert "of the other 104" in part
    # The cosine has no scale before one is fitted.
    assert lines["V21"][1::2][:3] == ["-", "-", "-"]
    for scale, _, nats, _, error, _, sure, right, seeds in lines.values():
        error, sure, right = (float(cell.split()[0]) for cell in (error, sure, right))
        assert float(scale) > 0
        assert 0 < float(nats) < 2
        assert abs(sure - right) - 0.1 <= error < 20
        assert seeds == "2"
    with (page.parent / "values.csv").open() as file:
        assert "calibration/error" in file.read()


def test_held_out_classes_are_reported_where_there_are_vectors(page: Path) -> None:
    text = page.read_text()
    part = text.partition("## New classes")[2].partition("\n## ")[0]
    (line,) = (line for line in part.splitlines() if line.startswith("| V21 |"))
    (verdict,) = (
        row for row in text.splitlines() if row.startswith("| unused vectors flag classes that were held out |")
    )
    assert r"V21 works: novelty/flagged\_new at least 50 %" in verdict
    cells = [float(cell.split()[0]) for cell in line.strip("|").split("|")[1:]]
    unused, new, known, by_distance = cells[:4]
    assert unused == pytest.approx(100 * (1 - 7 / 660), abs=0.05)
    assert new > known
    assert 60 < by_distance <= 100
    assert (page.parent / "novelty.svg").exists()
    assert "| ce |" not in part
    assert "it has a class layer and no vectors" in text.partition("## Missing")[2]


def test_search_finds_what_all_cosines_say() -> None:
    generator = torch.Generator().manual_seed(0)
    stored, queries = torch.randn(300, 5, generator=generator), torch.randn(40, 5, generator=generator)
    labels, wanted = torch.randint(9, (300,), generator=generator), torch.randint(9, (40,), generator=generator)
    cosines = torch.nn.functional.cosine_similarity(queries.unsqueeze(1), stored.unsqueeze(0), dim=2)
    order = cosines.argsort(dim=1, descending=True)
    expected = [sum(w in labels[o[:k]] for w, o in zip(wanted, order, strict=True)) / 40 for k in NEIGHBOURS]
    assert search(stored, labels, queries, wanted) == pytest.approx(expected)
    assert expected[0] < expected[1]


def test_claims_on_what_a_report_measures_are_like_those_of_a_preset() -> None:
    told = smaller("small", 8, "large", 32)
    assert (told.text, told.result, told.against) == (
        "a database 4 times smaller finds as well", "similar", "large",
    )  # fmt: skip
    new, known = flags("V21")
    assert (new.result, new.threshold, known.result, known.threshold) == ("works", 0.5, "fails", 0.05)


def test_area_counts_pairs_and_ties_by_half() -> None:
    known, new = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, 3.0])
    pairs = [(1.0 if n > k else 0.5 if n == k else 0.0) for n in new for k in known]
    assert auroc(new, known) == pytest.approx(sum(pairs) / 6)
    x, y = roc(known, new)
    assert (x[0], y[0]) == (0, 0)
    assert (x[-1], y[-1]) == (1, 1)
    assert torch.trapezoid(y, x).item() == pytest.approx(auroc(new, known))


def test_analysis_goes_with_training_alone() -> None:
    bench = 'title = "b"\nkind = "bench"\n[bench]\nnames = ["decode"]\n[analysis]\nnames = ["database"]\n'
    preset, faults, _ = check_text(bench)
    assert preset is None
    assert any(fault.key == "analysis" and "bench" in fault.message for fault in faults)
    _, faults, _ = check_text(PRESET.replace('"novelty"', '"novelties"'))
    assert any("novelty" in fault.message for fault in faults)
