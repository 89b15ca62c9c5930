"""Wrong labels and long tails: by formula, by count, and the same for the same seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lsc_engine.config.derived import derive, summary
from lsc_engine.config.load import check_text
from lsc_engine.data.dataset import long_tail, open_source
from lsc_engine.data.named import changed
from lsc_engine.studies.plan import plan_study
from lsc_engine.training.run_images import open_images

PRESET = """
seed = 3
[data]
dataset = "digits"
{data}
[model]
name = "mlp"
[target]
method = "ce"
[train]
duration = "1 epochs"
batch_size = 32
"""


def labels(source: Any) -> torch.Tensor:
    return source.labels(torch.arange(source.images))


def test_the_share_of_wrong_labels_is_exact_and_other_classes_are_equally_likely(settings: Any) -> None:
    clean = open_source(settings("digits"), split="train")
    noisy = changed(clean, 5, noise=0.4, imbalance=None)
    true, given = labels(clean), labels(noisy)
    wrong = true != given
    assert int(wrong.sum()) == round(0.4 * clean.images)
    assert torch.equal(noisy.fetch(torch.arange(50)), clean.fetch(torch.arange(50)))
    shifts = torch.bincount((given - true)[wrong] % 10, minlength=10)
    assert shifts[0] == 0
    # Chi-squared with 8 degrees of freedom: 26.1 is passed once in a thousand seeds.
    expected = wrong.sum() / 9
    assert float(((shifts[1:] - expected) ** 2 / expected).sum()) < 26.1
    assert torch.equal(given, labels(changed(clean, 5, noise=0.4, imbalance=None)))
    assert not torch.equal(given, labels(changed(clean, 6, noise=0.4, imbalance=None)))


def test_sizes_of_a_long_tail_fall_exponentially(settings: Any) -> None:
    assert long_tail([5000] * 10, 0.01) == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50], "CIFAR-10-LT"
    assert long_tail([4, 4], 0.01) == [4, 1]
    clean = open_source(settings("digits"), split="train")
    tail = changed(clean, 0, noise=None, imbalance=0.1)
    sizes = torch.bincount(labels(clean)).tolist()
    assert torch.bincount(labels(tail)).tolist() == [int(s * 0.1 ** (c / 9)) for c, s in enumerate(sizes)]
    both = changed(clean, 0, noise=0.25, imbalance=0.1)
    assert torch.equal(both.fetch(torch.arange(9)), tail.fetch(torch.arange(9)))
    assert int((labels(both) != labels(tail)).sum()) == round(0.25 * tail.images)


def test_a_run_trains_on_what_was_counted_and_validates_on_true_labels(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text(PRESET.format(data="label_noise = 0.2\nimbalance = 0.1"))
    config = plan_study(str(file)).runs[0].config
    train, val = open_images(config, None, torch.device("cpu"), lambda text: None)
    found = summary(config)
    assert train.images == derive(config).images == found["images"] < 700
    assert (found["label_noise"], found["imbalance"]) == (0.2, 0.1)
    assert val is not None
    file.write_text(PRESET.format(data=""))
    _, true = open_images(plan_study(str(file)).runs[0].config, None, torch.device("cpu"), lambda text: None)
    assert torch.equal(labels(val), labels(true))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ('labels = "unique"\nlabel_noise = 0.2', "data.label_noise: unique labels have one image a class"),
        ('labels = "unique"\nimbalance = 0.2', "data.imbalance: unique labels have one image a class"),
        ("label_noise = 1.0", "data.label_noise: 1"),
        ("imbalance = 0.0", "data.imbalance: 0"),
        ("imbalance = 0.1\nfirst_class = 5", "data.imbalance: data.first_class"),
    ],
)
def test_what_cannot_be_is_refused(data: str, sentence: str) -> None:
    preset, mistakes, _ = check_text(PRESET.format(data=data))
    assert preset is None
    key, words = sentence.split(": ")
    assert [mistake.key for mistake in mistakes] == [key]
    assert words in mistakes[0].message
