"""Probabilities and their scale: against the softmax over all vectors written out, and a search over scales."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lsc_engine.common.errors import UsageError
from lsc_engine.heads.base import Head
from lsc_engine.heads.cross_entropy import CrossEntropyHead
from lsc_engine.heads.lsc import LscHead
from lsc_engine.training.calibration import fit_scale, probability, read_scale, write_calibration
from lsc_engine.vectors import system
from lsc_engine.vectors.order import Order

from .folders import call
from .stages import BASE, train_one

CLASSES, N = 30, 7


def heads() -> dict[str, Head]:
    made = system("V21", N)
    return {
        "lsc": LscHead(made, Order.make("shuffled", made, 0), CLASSES),
        "ce": CrossEntropyHead(N, CLASSES, None, 0),
        "cosface": CrossEntropyHead(N, CLASSES, None, 0, loss="cosface", scale=8.0, margin=0.35),
    }


def scores(head: Head, z: Tensor) -> tuple[Tensor, Tensor]:
    """The scores of all alternatives [B, count], and the alternative of each class."""
    if not isinstance(head, LscHead):
        assert isinstance(head, CrossEntropyHead)
        return head.logits(z).detach().double(), torch.arange(CLASSES)
    vectors = head.system.vectors(torch.arange(head.system.count)).double()
    return functional.normalize(z.double()) @ vectors.T, head.target(torch.arange(CLASSES))


@pytest.mark.parametrize("name", ["lsc", "ce", "cosface"])
@pytest.mark.parametrize("scale", [0.5, 4.0, 60.0])
def test_probability_entropy_and_energy_are_those_of_the_softmax_over_all(name: str, scale: float) -> None:
    head = heads()[name]
    z = torch.randn(20, N, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(20)
    all_scores, places = scores(head, z)
    distribution = torch.distributions.Categorical(logits=scale * all_scores)
    found = probability(head, z, labels, scale)
    for mine, want in zip(found, (
        distribution.probs.gather(1, places[labels].unsqueeze(1)).squeeze(1), distribution.entropy(),
        -(scale * all_scores).logsumexp(1),
    ), strict=True):  # fmt: skip
        torch.testing.assert_close(mine, want, atol=2e-5 if scale > 10 else 2e-6, rtol=1e-5)


def drawn(head: Head, scale: float, images: int = 3000) -> tuple[Tensor, Tensor]:
    """Embeddings, and labels drawn from the softmax at `scale` among the classes."""
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(images, N, generator=generator)
    all_scores, places = scores(head, z)
    return z, torch.multinomial((scale * all_scores[:, places]).softmax(1), 1, generator=generator).squeeze(1)


@pytest.mark.parametrize(("name", "scale"), [("ce", 2.0), ("ce", 5.0), ("cosface", 0.7)])
def test_a_scale_that_labels_were_drawn_with_is_found_again(name: str, scale: float) -> None:
    head = heads()[name]
    found = fit_scale(head, [drawn(head, scale)], step=3, data="drawn")
    assert found.scale == pytest.approx(scale, rel=0.15)
    assert found.temperature == pytest.approx(1 / found.scale)
    assert found.confidence == pytest.approx(found.accuracy, abs=0.02)
    assert found.nll_before is not None
    assert found.nll <= found.nll_before


def test_it_is_the_scale_of_least_negative_log_likelihood_over_all_vectors() -> None:
    head = heads()["lsc"]
    z, labels = drawn(head, 9.0)
    found = fit_scale(head, [(z[:1000], labels[:1000]), (z[1000:], labels[1000:])], step=3, data="drawn")
    all_scores, places = scores(head, z)
    tried = torch.linspace(0.05, 20, 400)
    losses = [float(functional.cross_entropy(scale * all_scores, places[labels])) for scale in tried]
    assert found.scale == pytest.approx(float(tried[losses.index(min(losses))]), abs=0.06)
    assert found.nll == pytest.approx(min(losses), abs=1e-4)
    assert found.nll_before is None


def test_images_that_are_all_right_are_as_certain_as_their_number_allows_and_none_are_refused() -> None:
    head = heads()["lsc"]
    z = head.centres(torch.arange(CLASSES))
    assert z is not None
    few, many = (fit_scale(head, [(z, torch.arange(CLASSES))] * times, step=1, data="d") for times in (1, 100))
    assert few.accuracy == many.accuracy == 1
    assert 1 / 100 < 1 - few.confidence < 1 / 8  # one of 32 images counts as anything
    assert 1 / 10_000 < 1 - many.confidence < 1 / 500
    with pytest.raises(UsageError, match="no image with a class"):
        fit_scale(head, [], step=1, data="d")


def test_the_scale_is_kept_in_the_run_and_a_damaged_file_is_none(tmp_path: Path) -> None:
    head = heads()["ce"]
    fitted = fit_scale(head, [drawn(head, 2.0, 100)], step=7, data="d")
    assert read_scale(tmp_path) is None
    write_calibration(tmp_path, fitted)
    assert read_scale(tmp_path) == (fitted.scale, 7)
    (tmp_path / "calibration.json").write_text('{"scale": "x"}')
    assert read_scale(tmp_path) is None


def test_predict_gives_probabilities_once_the_scale_is_known(tmp_path: Path) -> None:
    run = "t/default/seed-0"
    train_one(tmp_path, BASE)
    refused = call(tmp_path, "predict", run, "--split", "val", "--probability", code=2).err
    assert "was trained with cosine, whose scores have no scale" in refused
    assert f"lsc-engine predict {run} --calibrate" in refused
    fitted = json.loads(call(tmp_path, "predict", run, "--calibrate", "--json").out)
    assert fitted == {"run": run, **json.loads((tmp_path / "runs" / run / "calibration.json").read_text())}
    assert fitted["data"] == "digits val"
    outcome = json.loads(call(tmp_path, "predict", run, "--split", "val", "--probability", "--json").out)
    assert outcome["scale"] == fitted["scale"]
    mean = sum(row["probability"] for row in outcome["labels"]) / len(outcome["labels"])
    assert mean == pytest.approx(fitted["confidence"], abs=1e-4)
    assert all(0 <= row["entropy"] < 4 for row in outcome["labels"])  # V21 at n = 4 has 12 vectors
    assert "probability" in call(tmp_path, "predict", run, "--split", "val", "--probability", "--limit", "1").out
    assert "alone" in call(tmp_path, "predict", run, "--calibrate", "--probability", code=2).err


def test_path_and_classes_are_never_ignored(tmp_path: Path) -> None:
    run = "t/default/seed-0"
    train_one(tmp_path, BASE)
    (tmp_path / "pics").mkdir()
    assert "no images in pics" in call(tmp_path, "predict", run, "--path", "pics", code=2).err
    assert (
        "digits needs no files" in call(tmp_path, "predict", run, "--dataset", "digits", "--path", "pics", code=2).err
    )
    outcome = json.loads(call(tmp_path, "predict", run, "--classes", "3", "--json").out)
    assert {row["true"] for row in outcome["labels"]} == {0, 1, 2}
