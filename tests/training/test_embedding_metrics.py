"""Metrics of frozen embeddings: against scikit-learn, pytorch-metric-learning and pytorch-ood; in a run, and by the
command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN
from pytorch_ood.detector import KNN, EnergyBased, MaxLogit
from pytorch_ood.metrics.functional import auroc, fpr_at_tpr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import Normalizer, StandardScaler
from torch.nn import functional

from lsc_engine.heads.cross_entropy import CrossEntropyHead
from lsc_engine.heads.lsc import LscHead
from lsc_engine.training import embedding_metrics as metrics
from lsc_engine.training.embedding_metrics import Embedded, measure
from lsc_engine.vectors import system
from lsc_engine.vectors.order import Order

from .folders import call
from .stages import BASE, train_one


def clusters(images: int, classes: int = 7, n: int = 6, seed: int = 0, spread: float = 0.6) -> Embedded:
    """Overlapping clusters whose centres are the same for every `seed`."""
    centres = torch.randn(classes, n, generator=torch.Generator().manual_seed(99))
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (images,), generator=draw)
    return Embedded(centres[labels] + spread * torch.randn(images, n, generator=draw), labels)


TRAIN, VAL = clusters(400, seed=1), clusters(150, seed=2)


@pytest.mark.parametrize("k", [1, 2, 5, 20])
def test_neighbours_vote_as_in_scikit_learn(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_AT_ONCE", 400 * 64)
    oracle = KNeighborsClassifier(k, metric="cosine", algorithm="brute").fit(TRAIN.z.numpy(), TRAIN.labels.numpy())
    want = oracle.score(VAL.z.numpy(), VAL.labels.numpy())
    assert 0.5 < want < 1
    assert metrics.knn_accuracy(TRAIN, VAL, k) == pytest.approx(want, abs=1e-9)


def test_the_probe_is_the_logistic_regression_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_AT_ONCE", 7 * 64)
    train = Embedded(TRAIN.z, TRAIN.labels * 10)
    val = Embedded(VAL.z, VAL.labels * 10)
    scaler = StandardScaler().fit(Normalizer().transform(train.z.double().numpy()))
    x, y = (scaler.transform(Normalizer().transform(each.z.double().numpy())) for each in (train, val))
    oracle = LogisticRegression(tol=1e-10, max_iter=10_000).fit(x, train.labels.numpy())
    want = oracle.score(y, val.labels.numpy())
    assert 0.6 < want < 1
    assert metrics.probe_accuracy(train, val) == pytest.approx(want, abs=1e-9)


def test_retrieval_is_that_of_pytorch_metric_learning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_AT_ONCE", 150 * 40)
    alone = Embedded(torch.cat([VAL.z, torch.ones(1, 6)]), torch.cat([VAL.labels, torch.tensor([77])]))
    from pytorch_metric_learning.distances import CosineSimilarity

    oracle = AccuracyCalculator(
        include=("precision_at_1", "mean_average_precision_at_r"), k="max_bin_count", device=torch.device("cpu"),
        knn_func=CustomKNN(CosineSimilarity()),
    )  # fmt: skip
    want = oracle.get_accuracy(alone.z, alone.labels)
    found = metrics.retrieval(alone)
    assert found["recall@1"] == pytest.approx(want["precision_at_1"], abs=1e-6)
    assert found["map@r"] == pytest.approx(want["mean_average_precision_at_r"], abs=1e-6)
    cosines = functional.normalize(VAL.z) @ functional.normalize(VAL.z).T
    hits = [
        any(VAL.labels[j] == VAL.labels[i] for j in [j for j in row.argsort(descending=True) if j != i][:10])
        for i, row in enumerate(cosines)
    ]
    assert metrics.retrieval(VAL)["recall@10"] == pytest.approx(np.mean(hits), abs=1e-9)
    assert metrics.retrieval(Embedded(VAL.z[:3], torch.arange(3))) == {}


@pytest.mark.parametrize("rounded", [False, True])
def test_other_classes_are_told_apart_as_by_the_curves_of_scikit_learn(rounded: bool) -> None:
    draw = torch.Generator().manual_seed(4)
    inside, outside = torch.randn(333, generator=draw) + 1.2, torch.randn(200, generator=draw)
    if rounded:  # many equal scores
        inside, outside = inside.round(), outside.round()
    truth, scores = np.r_[np.ones(333), np.zeros(200)], torch.cat([inside, outside]).double().numpy()
    assert metrics.auroc(inside, outside) == pytest.approx(roc_auc_score(truth, scores), abs=1e-9)
    false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
    assert metrics.fpr95(inside, outside) == pytest.approx(false[np.argmax(true >= 0.95)], abs=1e-9)


def test_the_calibration_error_is_that_of_its_definition() -> None:
    draw = np.random.default_rng(5)
    confidence = draw.uniform(0, 1, 500)
    confidence[:3] = 0, 0.2, 1
    right = draw.uniform(0, 1, 500) < confidence**2
    want = 0.0
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15) | ((low == 0) & (confidence == 0))
        if inside.any():
            want += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    found = metrics.calibration_error(torch.from_numpy(confidence), torch.from_numpy(right))
    assert found == pytest.approx(want, abs=1e-9)


@pytest.mark.parametrize("kind", ["vectors", "class layer"])
def test_scores_of_other_classes_are_those_of_pytorch_ood(kind: str) -> None:
    ood = torch.randn(90, 6, generator=torch.Generator().manual_seed(6))
    both = torch.cat([VAL.z, ood])
    if kind == "class layer":
        head = CrossEntropyHead(6, 7, None, 0)
        used = every = head.logits(both).detach().double()
    else:
        made = system("V21", 6)
        head = LscHead(made, Order.make("shuffled", made, 0), 7)
        cosines = functional.normalize(both.double()) @ made.vectors(torch.arange(made.count)).double().T
        used, every = cosines[:, head.target(torch.arange(7))], 4.0 * cosines
    found, notes = measure(head, ("ood",), TRAIN, VAL, ood=ood, scale=4.0 if kind == "vectors" else 1.0)
    assert not notes
    far = KNN(None, k=50).fit_features(TRAIN.z, TRAIN.labels)
    detectors = {"": MaxLogit.score(used), "_energy": EnergyBased.score(every), "_knn": far.predict_features(both)}
    for name, scores in detectors.items():
        # Its positives are images of other data, those of our FPR95 the known ones (arXiv:1706.02690).
        outside = torch.cat([torch.zeros(150), torch.full((90,), -1)])
        assert found[f"ood/auroc{name}"] == pytest.approx(float(auroc(scores, outside)), abs=1e-4)
        assert found[f"ood/fpr95{name}"] == pytest.approx(float(fpr_at_tpr(-scores, -1 - outside)), abs=0.012)


def test_a_head_without_a_scale_is_judged_on_images_that_its_scale_was_not_fitted_on() -> None:
    made = system("V21", 4)
    head = LscHead(made, Order.make("shuffled", made, 0), made.count)
    draw = torch.Generator().manual_seed(7)
    z = torch.randn(600, 4, generator=draw)
    places = head.target(torch.arange(made.count))
    cosines = functional.normalize(z) @ made.vectors(places).T
    val = Embedded(z, torch.multinomial((9 * cosines).softmax(1), 1, generator=draw).squeeze(1))
    odd = Embedded(val.z[1::2], val.labels[1::2])
    found = measure(head, ("ece",), TRAIN, val)[0]["eval/ece"]
    tried = {scale: measure(head, ("ece",), TRAIN, odd, scale=scale)[0]["eval/ece"] for scale in (1.0, 9.0, 400.0)}
    assert found == pytest.approx(tried[9.0], abs=0.03)
    assert found < 0.1 < min(tried[1.0], tried[400.0])
    val = Embedded(torch.randn(150, 6, generator=draw), VAL.labels)
    random = LscHead(drawn := system("gaussian", 6, classes=7), Order.make("sequential", drawn, 0), 7)
    values, notes = measure(random, ("ece", "ood"), TRAIN, val, ood=VAL.z)
    assert set(values) == {"ood/auroc", "ood/fpr95", "ood/auroc_knn", "ood/fpr95_knn"}
    assert notes[0].startswith("ece: ")


ALSO = '[eval]\nalso = ["knn", "probe", "recall", "map", "ece", "ood"]\nood = "printed-digits"\n'
NEAR = {"eval/knn", "eval/probe", "eval/recall@1", "eval/recall@10", "eval/map@r"}
NAMES = NEAR | {"eval/ece", "ood/auroc", "ood/fpr95"}


def test_a_run_writes_them_at_its_end_and_the_command_finds_the_same(tmp_path: Path) -> None:
    run = train_one(tmp_path, BASE + ALSO)
    last = {name: run.history(name)[1] for name in NAMES}
    assert all(len(values) == 1 and 0 <= values[0] <= 1 for values in last.values()), (last, run.log_path.read_text())
    assert last["eval/knn"][0] > 0.5
    outcome = json.loads(call(tmp_path, "evaluate", run.id, "--json").out)
    assert outcome["images"] == {"train": 1497, "val": 300, "ood": 210}
    for name in NAMES:
        assert outcome["metrics"][name] == pytest.approx(last[name][0], abs=1e-6), name
    assert outcome["metrics"]["val/accuracy"] == pytest.approx(run.history("val/accuracy")[1][-1])
    printed = call(tmp_path, "evaluate", run.id, "--on", "printed-digits").out
    assert "eval/knn" in printed
    assert "ood/auroc_energy" in printed
    assert "eval/ece" not in printed
    assert '"printed-digit"' in call(tmp_path, "evaluate", run.id, "--on", "printed-digit", code=2).err
    assert "3 channels, this network takes 1" in call(
        tmp_path, "evaluate", run.id, "--on", "folder", "--path", str(_coloured(tmp_path)), code=2
    ).err  # fmt: skip


def _coloured(root: Path) -> Path:
    from .folders import colours

    for split in ("train", "val"):
        colours(root / "pics" / split, "ant", "bee", each=3)
    return root / "pics"


def test_a_run_of_unique_labels_is_evaluated_by_the_classes_of_a_data_set(tmp_path: Path) -> None:
    unique = BASE.replace("[model]", 'labels = "unique"\nclasses = 200\n[model]').replace("dim = 4", "dim = 9")
    run = train_one(tmp_path, unique)
    assert "--on digits" in call(tmp_path, "evaluate", run.id, code=2).err
    outcome = json.loads(call(tmp_path, "evaluate", run.id, "--on", "digits", "--json").out)
    assert outcome["images"] == {"train": 1497, "val": 300}
    assert set(outcome["metrics"]) == NEAR


@pytest.mark.parametrize(
    ("lines", "key", "sentence"),
    [
        ('also = ["knn"]\n[data]\nlabels = "unique"', "eval.also", "--on DATASET"),
        ('also = ["knn", "knn"]', "eval.also", "twice"),
        ('also = ["neighbours"]', "eval.also", ""),
        ('also = ["ood"]', "eval.ood", "is required for ood"),
        ('ood = "printed-digits"', "eval.ood", 'needs "ood"'),
        ('also = ["ood"]\nood = "digits"', "eval.ood", "has the classes of the run"),
        ('also = ["ood"]\nood = "cifar10"', "eval.ood", "3 channel"),
        ('also = ["ood"]\nood = "folder"', "eval.ood", "no size"),
    ],
)
def test_what_cannot_be_measured_is_refused(lines: str, key: str, sentence: str, tmp_path: Path) -> None:
    text, _, data = lines.partition("\n[data]\n")
    preset = BASE.replace('dataset = "digits"', f'dataset = "digits"\n{data}') + f"[eval]\n{text}\n"
    (tmp_path / "p.toml").write_text(preset)
    outcome = call(tmp_path, "check", "p.toml", code=2)
    assert key in outcome.err
    assert sentence in outcome.err
