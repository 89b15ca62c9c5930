"""Backbones: sizes the papers state, shapes, and initial weights as a function of the seed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from lsc_engine.common.errors import UsageError
from lsc_engine.config.schema import Model
from lsc_engine.heads.model_sizes import model_sizes
from lsc_engine.models.backbones.encoder import Encoder
from lsc_engine.models.backbones.vit import patch_size
from lsc_engine.models.build import build_model
from lsc_engine.studies.plan import plan_study


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_encoder_has_the_nine_million_parameters_of_the_paper() -> None:
    assert parameters(Encoder().build(3, 32, 384, 1.0)) == pytest.approx(9.08e6, rel=0.005)
    assert parameters(Encoder().build(3, 224, 384, 1.0)) == parameters(Encoder().build(3, 32, 384, 1.0))


@pytest.mark.parametrize("size", [4, 8, 28, 32, 64])
def test_encoder_takes_any_image_size(size: int) -> None:
    assert Encoder().build(1, size, 17, 0.1)(torch.zeros(2, 1, size, size)).shape == (2, 17)


def test_mlp_of_the_etf_paper_has_its_parameters() -> None:
    # arXiv:2412.00884: MLP 5x400 on 28x28 images, 10 classes: 802 410 with batch norm.
    assert parameters(build_model(Model(name="mlp"), channels=1, size=28, dim=10, seed=0)) == 802_410


@pytest.mark.parametrize(("size", "patch", "millions"), [(224, 16, 21.67), (32, 4, 21.34)])
def test_vit_sizes(size: int, patch: int, millions: float) -> None:
    assert patch_size(size) == patch
    with torch.device("meta"):
        model = build_model(Model(name="vit-s"), channels=3, size=size, dim=384, seed=0)
    assert parameters(model) == pytest.approx(millions * 1e6, rel=0.005)


def test_a_projection_without_bias_stands_where_n_is_not_the_backbones_width() -> None:
    small = {"depth": 1, "embed_dim": 24, "num_heads": 2}
    model = build_model(Model(name="vit-s", args=small), channels=1, size=8, dim=7, seed=0)
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 7)
    assert model.projection.bias is None


def test_a_residual_stream_in_bf16_under_autocast_only_and_close_to_float32() -> None:
    args = {"depth": 3, "embed_dim": 48, "num_heads": 2}
    images = torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    plain, lower = (
        build_model(Model(name="vit-s", args=args), channels=3, size=16, dim=20, seed=3, residual=residual)
        for residual in (None, "bf16")
    )
    assert plain(images).equal(lower(images))
    streams, found = [], []
    for model in (plain, lower):
        model.backbone.norm.register_forward_pre_hook(lambda _, inputs: streams.append(inputs[0].dtype))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            z = model(images).float()
        torch.nn.functional.normalize(z).pow(3).sum().backward()
        found.append((z, torch.cat([p.grad.flatten() for p in model.parameters()])))
    assert streams == [torch.float32, torch.bfloat16]
    (z, gradient), (lower_z, lower_gradient) = found
    assert torch.nn.functional.cosine_similarity(z, lower_z).min() > 0.999
    assert torch.nn.functional.cosine_similarity(gradient, lower_gradient, dim=0) > 0.99
    assert not z.equal(lower_z)


def test_a_network_without_blocks_has_no_residual_stream_to_lower() -> None:
    with pytest.raises(UsageError, match=r"train.residual: timm:resnet10t has no blocks in sequence"):
        build_model(Model(name="timm:resnet10t"), channels=1, size=32, dim=9, seed=0, residual="bf16")


def test_other_timm_models_take_the_channels_and_n() -> None:
    model = build_model(Model(name="timm:resnet10t"), channels=1, size=32, dim=9, seed=0)
    assert model(torch.zeros(2, 1, 32, 32)).shape == (2, 9)


@pytest.mark.parametrize("name", ["encoder", "mlp"])
def test_initial_weights_are_a_function_of_the_seed_and_leave_global_randomness_alone(name: str) -> None:
    before = torch.get_rng_state()
    a, b, c = (build_model(Model(name=name, width=0.1), channels=1, size=8, dim=5, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not all(torch.equal(x, y) for x, y in zip(a.parameters(), c.parameters(), strict=True))


def test_wrong_names_and_arguments_get_a_sentence() -> None:
    with pytest.raises(UsageError, match='timm has no model "resnett18"; did you mean "resnet18'):
        build_model(Model(name="timm:resnett18"), channels=3, size=32, dim=5, seed=0)
    with pytest.raises(UsageError, match=r"model\.args: timm's vit_small_patch16_224 refuses"):
        build_model(Model(name="vit-s", args={"dept": 2}), channels=3, size=32, dim=5, seed=0)


def kept_for_backward(model: nn.Module, images: torch.Tensor) -> int:
    """Bytes of all storages that a real forward pass keeps."""
    kept: dict[int, int] = {}
    held = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        held.append(tensor)
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(images)
    assert output.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("name", ["encoder", "mlp", "vit-s"])
def test_the_memory_estimate_counts_images_and_not_weights(tmp_path: Path, name: str) -> None:
    file = tmp_path / "m.toml"
    file.write_text(
        'data = { dataset = "spectrum", classes = 100, labels = "unique" }\n'
        f'model = {{ name = "{name}", dim = 40 }}\n'
        'target = { method = "lsc", system = "V21" }\ntrain = { duration = "1 steps", batch_size = 64 }\n'
    )
    config = plan_study(file).runs[0].config
    outcome = model_sizes(config, channels=3, size=32, dim=40, classes=100)
    model = build_model(config.model, channels=3, size=32, dim=40, seed=0)
    # What grows with the batch is activations; weights, gradients and moments are 16 bytes a parameter.
    two, six = (kept_for_backward(model, torch.rand(images, 3, 32, 32)) for images in (2, 6))
    image = (six - two) / 4
    expected = 16 * sum(p.numel() for p in model.parameters()) + 64 * image
    assert outcome["head_parameters"] == 0
    assert outcome["memory_bytes"] == pytest.approx(expected, rel=0.1)


def test_a_teacher_adds_its_weights_and_logits_to_the_memory(tmp_path: Path) -> None:
    file = tmp_path / "m.toml"
    file.write_text(
        'data = { dataset = "digits" }\nmodel = { name = "mlp", width = 0.1 }\ntarget = { method = "ce" }\n'
        'train = { duration = "1 epochs", batch_size = 50 }\n[[variants]]\nname = "teacher"\nmodel.width = 1.0\n'
        '[[variants]]\nname = "student"\ntarget.teacher = "@teacher"\n[[variants]]\nname = "alone"\n'
    )
    configs = {run.config.variant: run.config for run in plan_study(file).runs}
    shape = {"channels": 1, "size": 8, "dim": None, "classes": 10}
    alone = model_sizes(configs["alone"], **shape)  # type: ignore[arg-type]
    taught = model_sizes(configs["student"], **shape, teacher=configs["teacher"])  # type: ignore[arg-type]
    teacher = model_sizes(configs["teacher"], **shape)  # type: ignore[arg-type]
    weights = teacher["parameters"] + teacher["head_parameters"]
    assert weights > 10 * alone["parameters"]
    assert taught["teacher_bytes"] == 4 * weights + 4 * 50 * 10
    assert taught["memory_bytes"] - alone["memory_bytes"] == taught["teacher_bytes"]
