"""Layers fixed to simplex ETFs (arXiv:2412.00884): which there are, and what does not fit. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from pydantic import ValidationError

from lsc_engine.common.formatting import grouped, quoted
from lsc_engine.config.schema import CrossEntropy, Lsc, Model, Ssl
from lsc_engine.config.validation_errors import ValidationIssue as Issue
from lsc_engine.registry import MODELS

THRESHOLD, PATIENCE = 0.9, 6
FRAME = "canonical"
# Of timm models and plugins nothing is known here.
_UNKNOWN = SimpleNamespace(linear_layers=0, all_linear=False, own_dim=lambda width: None)


def backbone_of(model: Model) -> Any:
    """The `models.backbone.Backbone` of built-in models, with the default settings if model.args do not fit."""
    backbone = MODELS.built_in.get(model.name)
    if backbone is None:
        return _UNKNOWN
    try:
        return backbone(**model.args)
    except ValidationError:
        return backbone()


def layer_count(model: Model, target: Lsc | CrossEntropy | Ssl) -> int:
    """Linear layers in a row up to the output: those of the backbone, the bottleneck, the class layer."""
    return backbone_of(model).linear_layers + (
        1 + (target.bottleneck is not None) if isinstance(target, CrossEntropy) else 0
    )


def fixed_layers(layers: int | str | None, count: int) -> range:
    """Which of `count` layers in a row, numbered from 0, are fixed from the start on."""
    if isinstance(layers, int):
        return range(count - layers, count)
    if layers is not None and layers.startswith("first:"):
        return range(int(layers.removeprefix("first:")))
    return range(0)


def filled(model: Model) -> dict[str, Any]:
    """The keys of fixed layers with their defaults; None for those that mean nothing here."""
    layers = model.etf_layers
    adaptive = layers == "adaptive"
    return {
        "etf_layers": layers,
        "etf_frame": (model.etf_frame or FRAME) if layers is not None else None,
        "etf_threshold": (model.etf_threshold or THRESHOLD) if adaptive else None,
        "etf_patience": (model.etf_patience or PATIENCE) if adaptive else None,
    }


def idle(model: Model) -> Iterator[Issue]:
    """Warnings for keys that have no effect."""
    if model.etf_layers is None and model.etf_frame is not None:
        yield Issue("model.etf_frame", "has no effect without model.etf_layers")
    for key in ("etf_threshold", "etf_patience"):
        if getattr(model, key) is not None and model.etf_layers != "adaptive":
            yield Issue(f"model.{key}", 'has no effect without model.etf_layers = "adaptive"')


def check_layers(model: Model, target: Lsc | CrossEntropy | Ssl, classes: int | None) -> Iterator[Issue]:
    """Faults of the fixed layers with the backbone, the head and the number of classes."""
    layers = model.etf_layers
    if layers is None:
        return
    key, backbone = "model.etf_layers", backbone_of(model)
    if layers == "feed-forward":
        if backbone.linear_layers:
            sentence = f'{model.name} has no transformer blocks; give the number of its last layers, or "adaptive"'
            yield Issue(key, sentence)
        return
    count = layer_count(model, target)
    if layers == "adaptive" and not backbone.linear_layers:
        yield Issue(key, f'"adaptive" needs layers in a row, as mlp and encoder have them, not {model.name}')
        return
    if isinstance(layers, str) and layers.startswith("first:") and not backbone.all_linear:
        yield Issue(key, f"{quoted(layers)} is for mlp; the first layers of {model.name} are no linear layers")
        return
    wanted = int(layers.removeprefix("first:")) if isinstance(layers, str) and layers != "adaptive" else layers
    if isinstance(wanted, int) and wanted > count:
        have = f"{model.name} with {target.method} has {_layers(count)} in a row up to the output"
        instead = '"feed-forward"' if count == 0 else f"at most {count}"
        if count and not backbone.linear_layers:
            instead += ', or "feed-forward"'
        yield Issue(key, f"{have}, {wanted} are to be fixed; take {instead}")
        return
    output = layers == "adaptive" or count - 1 in fixed_layers(layers, count)
    bottleneck = target.bottleneck if isinstance(target, CrossEntropy) else None
    width = bottleneck if isinstance(bottleneck, int) else model.dim
    if (
        output
        and isinstance(target, CrossEntropy)
        and isinstance(width, int)
        and classes is not None
        and width < classes - 1
    ):
        where = "target.bottleneck" if bottleneck else "model.dim"
        needed = (
            f"a simplex of {grouped(classes)} classes needs {where} >= {grouped(classes - 1)}, not {grouped(width)}"
        )
        yield Issue(key, f"the class layer cannot be fixed: {needed}")
    elif output and isinstance(target, Lsc) and model.dim == 1:
        yield Issue(key, "one output has no simplex; take model.dim from 2")


def _layers(count: int) -> str:
    return "1 linear layer" if count == 1 else f"{count or 'no'} linear layers"


def check_class_layer(model: Model, target: Lsc | CrossEntropy | Ssl) -> Iterator[Issue]:
    """Faults of model.args.class_layer, which makes the class layer the last layer of an mlp."""
    backbone = backbone_of(model)
    # timm models take any argument.
    if "class_layer" not in getattr(type(backbone), "model_fields", ()) or not backbone.class_layer:
        return
    key, width = "model.args.class_layer", backbone.own_dim(model.width)
    if not isinstance(target, CrossEntropy):
        yield Issue(key, f"belongs to ce; with {target.method} the last linear layer is the embedding's. Leave it out")
    elif model.args.get("layers", 5) == 1:
        yield Issue(key, "with one layer there is nothing before the class layer; take model.args.layers from 2")
    elif model.dim not in (None, width):
        sentence = f"the embedding is then the last hidden layer's {width}, not {model.dim}"
        yield Issue("model.dim", f"{sentence}; leave it out")
