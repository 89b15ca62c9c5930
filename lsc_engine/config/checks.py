"""Settings against each other: the impossible combinations, each with what would do."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from lsc_engine.common.errors import UsageError, did_you_mean
from lsc_engine.common.formatting import grouped, quoted
from lsc_engine.config.schema import AdamW, CrossEntropy, Data, Eval, Lsc, Model, Sgd, Ssl, Train, acts, meta_of
from lsc_engine.config.validation_errors import ValidationIssue as Issue
from lsc_engine.config.validation_errors import validate
from lsc_engine.data.dataset import built_in_data_sets, data_set, facts_of, image_file_data_sets
from lsc_engine.registry import LOSSES, MODELS
from lsc_engine.vectors.choice import INIT_ORDER
from lsc_engine.vectors.registry import facts, n_min, too_few

if TYPE_CHECKING:
    from collections.abc import Iterator

# Of others an idle value has no effect, as older presets have it.
_REFUSED_IDLE = ("scale", "batch_axis", "margin", "momentum")
# Of timm models and plugins nothing is known here.
_UNKNOWN = SimpleNamespace(linear_layers=0, all_linear=False, own_dim=lambda width: None)


def check_data(data: Data, *, look: bool = True) -> Iterator[Issue]:
    """Issues in [data] alone; its folder is counted where `look`."""
    chosen = data_set(data.dataset)
    if chosen.built_in and data.path is not None:
        yield Issue("data.path", f"{data.dataset} needs no files; leave it out")
    if data.dataset == "folder" and data.path is None:
        yield Issue("data.path", "is required for folder: a folder with one folder of images per class")
    if chosen.facts.size is None and data.image_size is None:
        yield Issue(
            "data.image_size", f"is required for {data.dataset}, whose images differ in size; 32 or 224, for example"
        )
    if chosen.made_from_index and data.classes is None:
        yield Issue("data.classes", f"is required for {data.dataset}, which has as many images as are requested")
    if data.skip_bad and not chosen.image_files:
        names = ", ".join(image_file_data_sets())
        yield Issue("data.skip_bad", f"belongs to data sets of image files ({names}); leave it out")
    for key in ("label_noise", "imbalance"):
        if getattr(data, key) is not None and data.labels == "unique":
            yield Issue(f"data.{key}", "unique labels have one image a class, none to be wrong or fewer; leave it out")
    if data.imbalance is not None and (data.skip_bad or data.first_class):
        other = "skip_bad" if data.skip_bad else "first_class"
        yield Issue("data.imbalance", f"cannot be counted together with data.{other}; leave one out")
    skip = bool(data.skip_bad)
    limit = chosen.available(data.labels, path=data.path, skip_bad=skip) if look else None
    if limit is not None and data.classes is not None and data.classes > limit:
        kind = "training images, each its own class" if data.labels == "unique" else "classes"
        yield Issue(
            "data.classes", f"{data.dataset} has {grouped(limit)} {kind}; {grouped(data.classes)} are requested"
        )


def check_first_class(data: Data, classes: int) -> Iterator[Issue]:
    """Issues in data.first_class, with the number of classes."""
    if data.first_class is not None and data.first_class >= classes:
        last = f"the last of {grouped(classes)} classes is {grouped(classes - 1)}"
        yield Issue("data.first_class", f"{grouped(data.first_class)} leaves no class to train on; {last}")


def check_eval(data: Data, evaluation: Eval) -> Iterator[Issue]:
    """Issues in [eval] with the data set."""
    if evaluation.shift is not None and data.labels == "unique":
        yield Issue("eval.shift", "unique labels have no validation images to change")
    if evaluation.ncc and data.labels == "unique":
        yield Issue("eval.ncc", "unique labels have one image a class, which is its own centre; leave it out")
    yield from _check_also(data, evaluation)
    other = evaluation.dataset
    if other is None:
        return
    if data.labels == "unique":
        yield Issue("eval.dataset", "unique labels have no validation images: no other image is of such a class")
    elif data_set(other).other_classes:
        yield Issue("eval.dataset", f"{other} cannot be validated on; take one of the named data sets")
    elif facts_of(other).channels != facts_of(data.dataset).channels:
        yield Issue(
            "eval.dataset",
            f"{other} has {facts_of(other).channels} channel(s), {data.dataset} {facts_of(data.dataset).channels}",
        )
    elif facts_of(data.dataset).classes not in (None, facts_of(other).classes):
        yield Issue(
            "eval.dataset",
            f"{other} has {facts_of(other).classes} classes, {data.dataset} {facts_of(data.dataset).classes}",
        )


def _check_also(data: Data, evaluation: Eval) -> Iterator[Issue]:
    also, other = evaluation.also or (), evaluation.ood
    if also and data.labels == "unique":
        yield Issue("eval.also", "unique labels have no validation images; take lsc-engine evaluate RUN --on DATASET")
    if len(set(also)) < len(also):
        yield Issue("eval.also", "names a metric twice")
    if ("ood" in also) != (other is not None):
        there = other is None
        sentence = "is required for ood: a data set of other classes" if there else 'needs "ood" in eval.also'
        yield Issue("eval.ood", sentence)
    if other is None:
        return
    if other in (data.dataset, evaluation.dataset):
        yield Issue("eval.ood", f"{other} has the classes of the run; take a data set of other classes")
    elif data_set(other).facts.size is None:
        yield Issue("eval.ood", f"{other} has no size of its own; take lsc-engine evaluate RUN --on {other}")
    elif facts_of(other).channels != (channels := facts_of(data.dataset).channels):
        fitting = [name for name, each in built_in_data_sets().items() if each.facts.channels == channels]
        allowed = ", ".join(name for name in fitting if name != data.dataset)
        sentence = f"{other} has {facts_of(other).channels} channel(s), {data.dataset} {channels}"
        yield Issue("eval.ood", f"{sentence}. Allowed: {allowed}")


def check_model(model: Model) -> Iterator[Issue]:
    """Issues in [model] alone."""
    backbone = MODELS.built_in.get(model.name)
    if backbone is None or not model.args:
        return
    takes = backbone.model_fields
    for issue in validate(backbone, model.args, "model.args")[1]:
        name = issue.key.removeprefix("model.args.")
        allowed = did_you_mean(name, takes) if takes else "it takes none"
        yield issue if name in takes else Issue(issue.key, f"{model.name} does not take it; {allowed}")


def check_target(target: Lsc | CrossEntropy | Ssl) -> Iterator[Issue]:
    """Issues in [target] that need no number of classes."""
    yield from _check_idle(target)
    if isinstance(target, Lsc):
        if target.weights is not None and (min(target.weights) < 0 or sum(target.weights) == 0):
            yield Issue("target.weights", "two numbers from 0 are needed, one of them above 0")
        if target.reassign and target.order != INIT_ORDER:
            yield Issue("target.reassign", f'needs target.order = "{INIT_ORDER}"')
        if target.within_weight is not None and target.within is None:
            yield Issue("target.within_weight", 'needs target.within = "kld" or "gaussian"')
    if isinstance(target, CrossEntropy) and target.teacher is None:
        for key in ("teacher_weight", "temperature"):
            if getattr(target, key) is not None:
                yield Issue(f"target.{key}", 'needs target.teacher, like "@ce"')
    elif isinstance(target, CrossEntropy):
        for key in ("system", "loss", "share", "center_weight"):
            if getattr(target, key) not in (None, "softmax"):
                yield Issue(f"target.{key}", "does not go with target.teacher; leave one of them out")
    if isinstance(target, CrossEntropy) and target.system and target.loss == "softmax":
        yield Issue("target.loss", f"softmax needs a learnt class layer; with {target.system} take normalized")


def _check_idle(target: Lsc | CrossEntropy | Ssl) -> Iterator[Issue]:
    """Settings that are given and do not act beside the others."""
    flat = {f"target.{key}": value for key, value in target}
    if isinstance(target, CrossEntropy) and target.system and target.loss is None:
        flat["target.loss"] = "normalized"
    for key, info in type(target).model_fields.items():
        needs = meta_of(info).needs
        if key in _REFUSED_IDLE and getattr(target, key) is not None and needs and not acts(f"target.{key}", flat.get):
            other, values = needs
            yield Issue(f"target.{key}", f"belongs to {other} = {' or '.join(map(quoted, values))}; leave it out")


def check_partition(system: str, n: int, classes: int) -> Iterator[Issue]:
    """Issues in a softmax over all vectors of a system."""
    with suppress(UsageError):  # of an impossible n there is a sentence already
        if fault := facts(system, n, classes).partition_fault:
            yield Issue("target.loss", f"softmax: {fault}; take batch-softmax, or a system like V21")


def check_train(train: Train, target: Lsc | CrossEntropy | Ssl) -> Iterator[Issue]:
    """Issues in [train] with the method: batches in parts."""
    parts, batch = train.parts or 1, train.batch_size
    if batch % parts:
        near = min((p for p in range(1, min(batch, 4096) + 1) if batch % p == 0), key=lambda p: abs(p - parts))
        yield Issue("train.parts", f"{parts} does not divide train.batch_size = {batch}; {near} does")
    name = target.loss if isinstance(target, Lsc) else target.method
    by_image = name != "ssl" and (name not in LOSSES.built_in or LOSSES.built_in[name].by_image)
    if parts > 1 and not by_image:
        yield Issue("train.parts", f"{name} compares the images of a batch with each other; leave it out, or set 1")
    if parts > 1 and isinstance(target, CrossEntropy):
        for key in ("system", "share", "center_weight"):
            if getattr(target, key) is not None:
                yield Issue("train.parts", f"target.{key} follows whole batches; leave train.parts out, or set 1")
    if parts > 1 and train.compile == "graphs":
        yield Issue("train.compile", '"graphs" replays whole batches, and train.parts is above 1; take "on" or "auto"')


def check_optimizer(optimizer: AdamW | Sgd) -> Iterator[Issue]:
    """Issues in [optimizer] alone."""
    if optimizer.schedule != "steps":
        for key in ("milestones", "gamma"):
            if getattr(optimizer, key) is not None:
                sentence = f'belongs to schedule "steps", and it is "{optimizer.schedule}"'
                yield Issue(f"optimizer.{key}", sentence)
    elif not optimizer.milestones:
        sentence = 'is required for schedule "steps", like ["100 epochs", "150 epochs"]'
        yield Issue("optimizer.milestones", sentence)


def check_space(system: str, n: int, classes: int) -> Iterator[Issue]:
    """Issues in a vector system with a latent dimension and a number of classes."""
    if system == "planar" and n != 2:
        yield Issue("model.dim", f"planar lies in the plane: n = 2, not {n}")
    elif system == "simplex" and n < classes - 1:
        needed = f"a simplex of {grouped(classes)} classes needs n >= {grouped(classes - 1)}, not {grouped(n)}"
        yield Issue("model.dim", f"{needed}. Take that, or V21 from n = {n_min('V21', classes)}")
    else:
        try:
            message = too_few(system, n, classes)
        except UsageError as error:
            message = str(error)
        if message:
            yield Issue("model.dim", message)


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
        (target.system is None) + (target.bottleneck is not None) if isinstance(target, CrossEntropy) else 0
    )


def fixed_layers(layers: int | str | None, count: int) -> range:
    """Which of `count` layers in a row, numbered from 0, are fixed from the start on."""
    if isinstance(layers, int):
        return range(count - layers, count)
    if layers is not None and layers.startswith("first:"):
        return range(int(layers.removeprefix("first:")))
    return range(0)


def check_idle_etf(model: Model) -> Iterator[Issue]:
    """Warnings for keys that have no effect."""
    if model.etf_layers is None and model.etf_frame is not None:
        yield Issue("model.etf_frame", "has no effect without model.etf_layers")
    for key in ("etf_threshold", "etf_patience"):
        if getattr(model, key) is not None and model.etf_layers != "adaptive":
            yield Issue(f"model.{key}", 'has no effect without model.etf_layers = "adaptive"')


def check_layers(model: Model, target: Lsc | CrossEntropy | Ssl, classes: int | None) -> Iterator[Issue]:
    """Issues in the fixed layers with the backbone, the head and the number of classes."""
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
        and target.system is None
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
    """Issues in model.args.class_layer, which makes the class layer the last layer of an mlp."""
    backbone = backbone_of(model)
    # timm models take any argument.
    if "class_layer" not in getattr(type(backbone), "model_fields", ()) or not backbone.class_layer:
        return
    key, width = "model.args.class_layer", backbone.own_dim(model.width)
    if not isinstance(target, CrossEntropy):
        yield Issue(key, f"belongs to ce; with {target.method} the last linear layer is the embedding's. Leave it out")
    elif target.system is not None:
        yield Issue(key, f"belongs to a class layer that is learnt; with {target.system} leave it out")
    elif model.args.get("layers", 5) == 1:
        yield Issue(key, "with one layer there is nothing before the class layer; take model.args.layers from 2")
    elif model.dim not in (None, width):
        sentence = f"the embedding is then the last hidden layer's {width}, not {model.dim}"
        yield Issue("model.dim", f"{sentence}; leave it out")
