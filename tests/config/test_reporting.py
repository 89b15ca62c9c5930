"""What a preset says for its report: the paper's figures, claims, and the tables of the kinds that do not train."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lsc_engine.config.load import check_text
from lsc_engine.studies.plan import plan_study

TRAIN = """
[data]
dataset = "digits"
labels = "unique"
[model]
name = "encoder"
dim = 48
[target]
method = "lsc"
system = "V21"
[train]
duration = "3 epochs"
[compare]
baseline = "a"
[[variants]]
name = "a"
target.system = "A"
[[variants]]
name = "b"
"""
PAPER = """
[paper]
metric = "train/accuracy"
values = { a = "99", b = "fails" }
note = "after 60 epochs"
[[claims]]
text = "b is faster"
variant = "b"
is = "faster"
[[claims]]
text = "b is as good"
variant = "b"
against = "a"
is = "similar"
metric = "val/accuracy"
margin = 0.02
"""


def faults_of(text: str) -> dict[str, str]:
    return {fault.key: fault.message for fault in check_text(text)[1]}


def test_paper_and_claims_are_read() -> None:
    preset, faults, _ = check_text(PAPER + TRAIN)
    assert preset is not None, faults
    paper, claims = preset.reporting.paper, preset.reporting.claims
    assert paper is not None
    assert paper.values == {"a": "99", "b": "fails"}
    assert [(c.result, c.variant, c.against, c.margin) for c in claims] == [
        ("faster", "b", None, None),
        ("similar", "b", "a", 0.02),
    ]


@pytest.mark.parametrize(
    ("old", "new", "key", "words"),
    [
        ('b = "fails"', 'c = "fails"', "paper.values.c", "no variant of this preset"),
        ('b = "fails"', "b = 87.9", "paper.values.b", "a text in quotes is needed"),
        ('metric = "train/accuracy"', 'metric = "accuracy"', "paper.metric", "is not a metric"),
        ('is = "faster"', 'is = "quicker"', "claims.is", "in entry 1: .*faster"),
        ('is = "faster"', 'equals = "faster"', "claims.equals", "in entry 1: unknown key"),
        ('is = "faster"', 'is = "faster"\nmargin = 0.1', "claims.margin", 'in entry 1: goes with is = "better"'),
        ('variant = "b"\nis', 'variant = "d"\nis', "claims.variant", "in entry 1: no variant"),
        ('against = "a"', 'against = "b"', "claims.against", "in entry 2: .*with itself"),
        ("margin = 0.02", "margin = -1", "claims.margin", "in entry 2: .*at least 0"),
        ('text = "b is faster"', 'text = " "', "claims.text", "in entry 1: .*at least one character"),
        ('is = "faster"', 'is = "faster"\nsource = "the paper"', "claims.source", "in entry 1: .*inferred: why"),
        ("margin = 0.02", 'margin = 0.02\nsource = "inferred"', "claims.source", "in entry 2: .*inferred: why"),
    ],
)
def test_faults_name_the_place(old: str, new: str, key: str, words: str) -> None:
    assert old in PAPER
    found = faults_of(PAPER.replace(old, new, 1) + TRAIN)
    near = {k.replace('"', ""): message for k, message in found.items()}
    assert key in near, found
    assert re.search(words, near[key])


@pytest.mark.parametrize("source", ['paper: Sec. 5.4, "considerably faster"', "inferred: from Table 8", "ours"])
def test_a_claim_says_whose_it_is(source: str) -> None:
    text = PAPER.replace('is = "faster"', f"is = \"faster\"\nsource = '{source}'", 1)
    preset, faults, _ = check_text(text + TRAIN)
    assert preset is not None, faults
    assert [claim.source for claim in preset.reporting.claims] == [source, None]


def test_tries_and_sweeps_leave_the_claims_out(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[tune]\n"optimizer.lr" = [1e-4, 1e-3]\n' + PAPER + TRAIN)
    plan = plan_study(file)
    assert plan.tune is not None
    assert len(plan.tune.runs) == 4
    assert plan.tuned({"a": [{"optimizer.lr": 1e-3}]}).preset.reporting.claims
    assert not plan_study(file, sweeps=["train.batch_size=32,64"]).preset.reporting.claims


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ('kind = "vectors"', "vectors", "needs the table [vectors]"),
        ('kind = "vectors"\n[vectors]\nsystems = ["V21"]', "vectors.n", "classes"),
        ('kind = "vectors"\n[vectors]\nsystems = ["V2l"]\nn = [8]', "vectors.systems", "V2l"),
        ('kind = "vectors"\n[vectors]\nsystems = ["V21"]\nn = [0]', "vectors.n", "in entry 1: must be at least 1"),
        ('kind = "data"\n[datasets]\nnames = ["cifar100"]', "datasets.names", "cifar10"),
        ('kind = "data"\n[datasets]\nnames = []', "datasets.names", ""),
        ('kind = "data"\n[vectors]\nsystems = ["V21"]\nn = [8]', "vectors", 'goes with kind = "vectors"'),
        ('kind = "bench"\n[bench]\nnames = ["de code"]', "bench.names", "benchmark"),
        (
            'kind = "bench"\n[bench]\nnames = ["decode"]\narguments = { head = {} }',
            "bench.arguments.head",
            "does not name it",
        ),
        (
            'kind = "bench"\n[bench]\nnames = ["decode"]\n[[bench.claims]]\ntext = "x"\ncolumn = "y"\nat_lest = 1',
            "bench.claims.at_lest",
            'in entry 1: unknown key; did you mean "at_least"',
        ),
        ('kind = "data"\nclaims = []\n[datasets]\nnames = ["digits"]', "claims", "has none"),
    ],
)
def test_faults_of_the_kinds_without_training(text: str, key: str, words: str) -> None:
    found = faults_of(text)
    near = {k.replace('"', ""): message for k, message in found.items()}
    assert key in near, found
    assert words in near[key]


def test_kinds_without_training_are_read() -> None:
    preset, faults, _ = check_text('kind = "vectors"\n[vectors]\nsystems = ["A", "V21"]\nn = [3, 8]\nclasses = [1000]')
    assert preset is not None, faults
    assert preset.reporting.vectors is not None
    assert preset.reporting.vectors.n == (3, 8)
    text = 'kind = "data"\n[paper]\nvalues = { cifar10 = "60k/10k" }\n[datasets]\nnames = ["cifar10", "digits"]'
    preset, faults, _ = check_text(text)
    assert preset is not None, faults
