"""Class centres of every layer and neural collapse, against what their definitions say, image by image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lsc_engine.config.load import check_text
from lsc_engine.config.schema import Model
from lsc_engine.data.batches import Batch
from lsc_engine.heads.cross_entropy import CrossEntropyHead
from lsc_engine.models.build import build_model
from lsc_engine.training.evaluator import evaluate
from lsc_engine.training.neural_collapse import NeuralCollapse, observed_layers

CLASSES = 4
CPU: dict[str, Any] = {"device": torch.device("cpu"), "dtype": None}


def images(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images of classes that overlap, and their labels; no two classes are equally large."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 7, (count,), generator=generator).clamp(max=CLASSES - 1)
    patterns = torch.randn(CLASSES, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return 0.4 * patterns[labels] + torch.randn(count, 1, 8, 8, generator=generator), labels


def batches(x: Tensor, labels: Tensor, size: int) -> list[Batch[None]]:
    parts = torch.arange(len(x)).split(size)
    return [Batch(x[part], labels[part], None, part) for part in parts]


def network(name: str) -> tuple[torch.nn.Module, CrossEntropyHead]:
    args = {"depth": 2, "embed_dim": 24, "num_heads": 2} if name == "vit-s" else {"layers": 3, "class_layer": True}
    model = build_model(Model(name=name, width=0.06, args=args), channels=1, size=8, dim=24, seed=1)
    # Running statistics that are not those of the images: training mode would show.
    model(2 * images(64, 9)[0])
    return model, CrossEntropyHead(24, CLASSES, None, 2)


def by_hand(model: torch.nn.Module, head: CrossEntropyHead, x: Tensor) -> list[np.ndarray]:
    """What the three linear layers of the perceptron put out, and the embedding, image by image."""
    model.eval()
    blocks = list(model.blocks)
    out = []
    with torch.no_grad():
        h = x.flatten(1)
        for block in blocks:
            out.append(block[0](h))
            h = torch.relu(block[1](out[-1]))
        out += [head.layer(h), h]
    return [o.double().numpy() for o in out]


def measured(model: torch.nn.Module, head: CrossEntropyHead, size: int = 50) -> dict[str, float]:
    train, val = batches(*images(400, 1), size), batches(*images(150, 2), size)
    with NeuralCollapse(model, head, CLASSES, CPU["device"]) as collapse:
        evaluate(model, head, train, observers=[collapse.fit], **CPU)
        # A pass that nobody watches leaves nothing behind.
        evaluate(model, head, batches(*images(70, 3), 70), **CPU)
        judge = collapse.evaluator()
        evaluate(model, head, train, observers=[judge.update], **CPU)
        other = collapse.evaluator()
        evaluate(model, head, val, observers=[other.update], **CPU)
        return judge.metrics("train") | other.metrics("val")


def test_every_layer_is_judged_by_its_own_class_means() -> None:
    model, head = network("mlp")
    found = measured(model, head)
    assert model.training
    (x, y), (x_val, y_val) = images(400, 1), images(150, 2)
    y, y_val = y.numpy(), y_val.numpy()
    for number, (train, val) in enumerate(zip(by_hand(model, head, x), by_hand(model, head, x_val), strict=True), 1):
        if number == 4:
            break
        means = np.stack([train[y == c].mean(0) for c in range(CLASSES)])
        for name, features, labels in (("train", train, y), ("val", val, y_val)):
            nearest = np.linalg.norm(features[:, None] - means, axis=2).argmin(1)
            assert found[f"{name}/ncc_{number}"] == pytest.approx((nearest == labels).mean(), abs=1e-9)
    assert "train/ncc_4" not in found
    assert 0.3 < found["train/ncc_1"] < 1
    smaller = measured(model, head, size=7)
    assert smaller == pytest.approx(found, rel=1e-5)


def test_neural_collapse_by_its_formulas() -> None:
    model, head = network("mlp")
    found = measured(model, head)
    x, labels = images(400, 1)
    y = labels.numpy()
    *_, logits, h = by_hand(model, head, x)
    means = np.stack([h[y == c].mean(0) for c in range(CLASSES)])
    centred = means - means.mean(0)
    within = (h - means[y]).T @ (h - means[y]) / len(y)
    between = centred.T @ centred / CLASSES
    assert found["train/nc1"] == pytest.approx(np.trace(within @ np.linalg.pinv(between)) / CLASSES, rel=1e-4)
    simplex = (np.eye(CLASSES) - 1 / CLASSES) / np.sqrt(CLASSES - 1)
    weight = head.layer.weight.detach().double().numpy()
    for name, product in (("nc2", centred @ centred.T), ("nc3", weight @ centred.T)):
        assert found[f"train/{name}"] == pytest.approx(
            np.linalg.norm(product / np.linalg.norm(product) - simplex), rel=1e-4
        )
    nearest = np.linalg.norm(h[:, None] - means, axis=2).argmin(1)
    assert found["train/nc4"] == pytest.approx((nearest != logits.argmax(1)).mean(), abs=1e-9)


def test_a_collapsed_network_has_no_distance_from_collapse() -> None:
    model, head = torch.nn.Flatten(), CrossEntropyHead(64, CLASSES, None, 0)
    corners = (torch.eye(CLASSES) - 1 / CLASSES) @ torch.eye(CLASSES, 64)
    with torch.no_grad():
        head.layer.weight.copy_(3 * corners)
        head.layer.bias.zero_()
    labels = torch.arange(40) % CLASSES
    train = batches((corners[labels] + 5).reshape(-1, 1, 8, 8), labels, 16)
    with NeuralCollapse(model, head, CLASSES, CPU["device"]) as collapse:
        evaluate(model, head, train, observers=[collapse.fit], **CPU)
        judge = collapse.evaluator()
        evaluate(model, head, train, observers=[judge.update], **CPU)
    found = judge.metrics("train")
    assert found["train/ncc_1"] == found["train/ncc_2"] == found["train/effective_depth"] == 1
    assert max(found[f"train/nc{i}"] for i in (1, 2, 3, 4)) < 1e-5


def test_blocks_of_a_transformer_are_judged_by_their_class_token() -> None:
    model, head = network("vit-s")
    names = observed_layers(torch.nn.ModuleDict({"model": model, "head": head}))
    assert names == ["model.backbone.blocks.0", "model.backbone.blocks.1", "model", "head.layer"]
    found = measured(model, head)
    tokens = []
    handle = model.backbone.blocks[1].register_forward_hook(lambda module, given, output: tokens.append(output[:, 0]))
    x, y = images(400, 1)
    model.eval()
    with torch.no_grad():
        model(x)
    handle.remove()
    means = torch.stack([tokens[0][y == c].mean(0) for c in range(CLASSES)])
    share = (torch.cdist(tokens[0], means).argmin(1) == y).double().mean().item()
    assert found["train/ncc_2"] == pytest.approx(share, abs=1e-9)
    assert found["train/effective_depth"] in (1, 2, 3, 4)


def test_a_class_without_training_images_is_nobodys_nearest() -> None:
    model, head = network("mlp")
    x, y = images(200, 1)
    train = batches(x[y > 0], y[y > 0], 64)
    with NeuralCollapse(model, head, CLASSES, CPU["device"]) as collapse:
        evaluate(model, head, train, observers=[collapse.fit], **CPU)
        judge = collapse.evaluator()
        evaluate(model, head, batches(x, y, 64), observers=[judge.update], **CPU)
    found = judge.metrics("val")
    assert all(share <= (y > 0).double().mean().item() for share in found.values())
    assert all(np.isfinite(value) for value in judge.neural_collapse().values())


def test_presets_ask_for_it() -> None:
    text = 'data.dataset = "digits"\nmodel.name = "mlp"\ntarget.method = "ssl"\ntrain.duration = "1 epochs"\n'
    _, faults, _ = check_text(text + "eval.ncc = true\n")
    assert [fault.key for fault in faults] == ["eval.ncc"]
