"""Layers fixed to simplex ETFs: the frame, its gradients, what is stored, and the sizes arXiv:2412.00884 leads to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lsc_engine.common.errors import UsageError
from lsc_engine.config.schema import Model
from lsc_engine.heads.model_sizes import model_sizes
from lsc_engine.models import etf
from lsc_engine.models.build import build_model
from lsc_engine.models.etf import FixedLinear
from lsc_engine.studies.plan import plan_study

SHAPES = [(400, 400), (400, 10), (784, 400), (9, 10), (8, 10), (48, 192), (192, 48), (2, 2), (1, 2)]


def layer(inputs: int, outputs: int, frame: str = "random", seed: int = 3) -> FixedLinear:
    bias = nn.Parameter(torch.linspace(-1, 1, outputs))
    return FixedLinear(inputs, outputs, frame=frame, seed=seed, bias=bias)


@pytest.mark.parametrize("frame", etf.FRAMES)
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
def test_the_weight_is_a_simplex_frame(frame: str, inputs: int, outputs: int) -> None:
    weight = layer(inputs, outputs, frame).weight.double()
    assert weight.shape == (outputs, inputs)
    in_rows = inputs >= outputs - 1
    corners = weight if in_rows else weight.T
    count = len(corners)
    lengths = torch.linalg.vector_norm(corners, dim=1)
    assert torch.allclose(lengths, torch.full_like(lengths, 1.0 if in_rows else (outputs / inputs) ** 0.5), atol=1e-6)
    cosines = corners @ corners.T / lengths[0] ** 2
    expected = torch.full_like(cosines, -1 / (count - 1)).fill_diagonal_(1)
    assert torch.allclose(cosines, expected, atol=1e-6)
    assert torch.linalg.matrix_rank(weight, rtol=1e-5) == count - 1
    assert weight.square().sum() == pytest.approx(outputs)


def test_the_canonical_weight_is_that_of_the_paper() -> None:
    # arXiv:2412.00884: sqrt(K / (K - 1)) (I - 1 1^T / K), then the first K inputs.
    paper = (10 / 9) ** 0.5 * (torch.eye(10) - 0.1) @ torch.eye(10, 400)
    assert torch.allclose(layer(400, 10, "canonical").weight, paper, atol=1e-6)
    square = (400 / 399) ** 0.5 * (torch.eye(400) - 1 / 400)
    assert torch.allclose(layer(400, 400, "canonical").weight, square, atol=1e-6)


@pytest.mark.parametrize("frame", etf.FRAMES)
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
def test_it_computes_what_its_weight_says_and_gradients_flow_to_the_input(
    frame: str, inputs: int, outputs: int
) -> None:
    fixed = layer(inputs, outputs, frame)
    x = torch.randn(3, 4, inputs, generator=torch.Generator().manual_seed(1), requires_grad=True)
    y = fixed(x)
    assert fixed.bias is not None
    assert torch.allclose(y, x @ fixed.weight.T + fixed.bias, atol=1e-5)
    y.square().sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, 2 * y.detach() @ fixed.weight, atol=1e-4)
    assert [name for name, _ in fixed.named_parameters()] == ["bias"]
    assert fixed.bias.grad is not None
    assert not fixed.weight.requires_grad


def test_frames_are_stored_as_their_seed() -> None:
    one, other = layer(64, 32, seed=3), layer(64, 32, seed=4)
    assert torch.equal(one.weight, layer(64, 32, seed=3).weight)
    assert not torch.allclose(one.weight, other.weight, atol=0.01)
    stored = one.state_dict()
    assert {name: tuple(t.shape) for name, t in stored.items()} == {"bias": (32,), "spec": (5,)}
    assert torch.equal(etf.dense({f"a.{n}": t for n, t in stored.items()})["a.weight"], one.weight)
    other.load_state_dict(stored)
    assert torch.equal(one.weight, other.weight)
    assert other.weight.dtype == torch.float32


def test_a_frame_of_another_version_is_refused() -> None:
    fixed = layer(64, 32)
    stored = {**fixed.state_dict(), "spec": torch.tensor([2, 1, 3, 64, 32])}
    with pytest.raises(UsageError, match="fixed by version 2 of the frames; this program knows 1"):
        fixed.load_state_dict(stored)
    with pytest.raises(UsageError, match=r"fixed at \[48, 32\], here it is \[64, 32\]"):
        fixed.load_state_dict({**fixed.state_dict(), "spec": torch.tensor([1, 1, 3, 48, 32])})


@pytest.mark.parametrize(("inputs", "outputs"), [(5, 1), (1, 5)])
def test_a_single_corner_is_no_simplex(inputs: int, outputs: int) -> None:
    with pytest.raises(UsageError, match="has no simplex: two corners are needed"):
        layer(inputs, outputs)


def config(folder: Path, model: str, target: str = 'method = "ce"') -> Any:
    file = folder / "t.toml"
    file.write_text(
        f'data = {{ dataset = "fashion-mnist" }}\nmodel = {{ {model} }}\ntarget = {{ {target} }}\n'
        'optimizer = { name = "sgd" }\ntrain = { duration = "1 epochs" }\n'
    )
    return plan_study(file).runs[0].config


def sizes(folder: Path, model: str) -> dict[str, Any]:
    made = config(folder, model)
    return model_sizes(made, channels=1, size=28, dim=made.model.dim, classes=10)


PAPER = 'name = "mlp", args = { layers = 5, class_layer = true }'


@pytest.mark.parametrize(
    ("layers", "trained", "share"), [(0, 802_410, 0.0), (1, 798_410, -0.005), (2, 638_410, -0.204),
                                     (3, 478_410, -0.404), (4, 318_410, -0.603)],
)  # fmt: skip
def test_the_counts_of_the_paper(tmp_path: Path, layers: int, trained: int, share: float) -> None:
    outcome = sizes(tmp_path, f"{PAPER}, etf_layers = {layers}" if layers else PAPER)
    assert outcome["parameters"] + outcome["head_parameters"] == trained
    assert trained / 802_410 - 1 == pytest.approx(share, abs=5e-4)
    assert outcome["fixed_parameters"] == 802_410 - trained
    assert outcome["optimizer_bytes"] == 4 * trained


def test_layers_are_fixed_by_name_in_the_order_of_the_network() -> None:
    model = build_model(Model(name="mlp", args={"layers": 4}), channels=1, size=8, dim=12, seed=0)
    network = nn.ModuleDict({"model": model, "head": nn.Module()})
    first = etf.layers_to_fix(network, Model(name="mlp", etf_layers="first:2"))
    last = etf.layers_to_fix(network, Model(name="mlp", etf_layers=2))
    assert first == ["model.blocks.0.0", "model.blocks.1.0"]
    assert last == ["model.blocks.2.0", "model.last"]
    biases = dict(model.named_parameters())
    etf.fix_layers(network, dict.fromkeys(last, 0), "canonical")
    assert etf.fixed_layer_names(network) == last
    left = dict(model.named_parameters())
    assert biases.keys() - left.keys() == {"blocks.2.0.weight", "last.weight"}
    assert all(left[name] is biases[name] for name in left)
    with pytest.raises(UsageError, match="5 of 4 linear layers in a row; take at most 4"):
        etf.layers_to_fix(network, Model(name="mlp", etf_layers=5))


def test_a_transformers_feed_forward_is_fixed(tmp_path: Path) -> None:
    vit = 'name = "vit-s", dim = 48, args = { depth = 2, embed_dim = 48, num_heads = 2 }'
    plain = sizes(tmp_path, vit)
    canonical, random = (sizes(tmp_path, f'{vit}, etf_layers = "feed-forward", etf_frame = "{f}"') for f in etf.FRAMES)
    weights = 2 * 2 * 48 * 192
    assert plain["parameters"] - canonical["parameters"] == weights
    assert canonical["fixed_parameters"] == random["fixed_parameters"] == weights
    assert random["memory_bytes"] - canonical["memory_bytes"] > 4 * weights * 0.9
    args = {"depth": 2, "embed_dim": 48, "num_heads": 2}
    model = build_model(Model(name="vit-s", args=args), channels=1, size=8, dim=48, seed=0)
    names = etf.layers_to_fix(nn.ModuleDict({"model": model}), Model(name="vit-s", etf_layers="feed-forward"))
    assert names == [f"model.backbone.blocks.{b}.mlp.{layer}" for b in (0, 1) for layer in ("fc1", "fc2")]
    etf.fix_layers(nn.ModuleDict({"model": model}), dict.fromkeys(names, 0), "random")
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 48)


def test_a_backbone_without_feed_forward_layers_is_refused(tmp_path: Path) -> None:
    made = config(tmp_path, 'name = "timm:resnet10t", etf_layers = "feed-forward"')
    with pytest.raises(UsageError, match="timm:resnet10t has no feed-forward layers fc1 and fc2"):
        model_sizes(made, channels=1, size=28, dim=None, classes=10)
