"""Settings against each other: the impossible combinations, each with what would do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lsc_engine.common.formatting import grouped, quoted
from lsc_engine.config.datasets import BUILT_IN, IMAGE_FILES, available, facts_of
from lsc_engine.config.faults import Fault
from lsc_engine.config.sections import Data, Eval, Model, Optimizer, Target
from lsc_engine.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

# What each backbone takes in model.args; None: whatever timm takes.
ARGUMENTS: dict[str, tuple[str, ...] | None] = {"encoder": (), "mlp": ("layers", "class_layer")}
FLAGS = ("class_layer",)


def check_data(data: Data, *, look: bool = True) -> Iterator[Fault]:
    """Faults of [data] alone; its folder is counted where `look`."""
    facts = facts_of(data.dataset)
    if data.dataset in BUILT_IN and data.path is not None:
        yield Fault("data.path", f"{data.dataset} needs no files; leave it out")
    if data.dataset == "folder" and data.path is None:
        yield Fault("data.path", "is required for folder: a folder with one folder of images per class")
    if facts.size is None and data.image_size is None:
        yield Fault(
            "data.image_size", f"is required for {data.dataset}, whose images differ in size; 32 or 224, for example"
        )
    if data.dataset == "spectrum" and data.classes is None:
        yield Fault("data.classes", "is required for spectrum, which has as many images as are asked for")
    if data.skip_bad and data.dataset not in IMAGE_FILES:
        yield Fault("data.skip_bad", f"belongs to data sets of image files ({', '.join(IMAGE_FILES)}); leave it out")
    skip = bool(data.skip_bad)
    limit = available(data.dataset, data.labels, path=data.path, skip_bad=skip) if look else None
    if limit is not None and data.classes is not None and data.classes > limit:
        kind = "training images, each its own class" if data.labels == "unique" else "classes"
        yield Fault(
            "data.classes", f"{data.dataset} has {grouped(limit)} {kind}; {grouped(data.classes)} are asked for"
        )


def check_first_class(data: Data, classes: int) -> Iterator[Fault]:
    """Faults of data.first_class, with the number of classes."""
    if data.first_class is not None and data.first_class >= classes:
        last = f"the last of {grouped(classes)} classes is {grouped(classes - 1)}"
        yield Fault("data.first_class", f"{grouped(data.first_class)} leaves no class to train on; {last}")


def check_eval(data: Data, evaluation: Eval) -> Iterator[Fault]:
    """Faults of [eval] with the data set."""
    if evaluation.shift not in (None, "none") and data.labels == "unique":
        yield Fault("eval.shift", "unique labels have no validation images to change")
    if evaluation.ncc and data.labels == "unique":
        yield Fault("eval.ncc", "unique labels have one image a class, which is its own centre; leave it out")
    other = evaluation.dataset
    if other is None:
        return
    if data.labels == "unique":
        yield Fault("eval.dataset", "unique labels have no validation images: no other image is of such a class")
    elif other in ("folder", "spectrum"):
        yield Fault("eval.dataset", f"{other} cannot be validated on; take one of the named data sets")
    elif facts_of(other).channels != facts_of(data.dataset).channels:
        yield Fault(
            "eval.dataset",
            f"{other} has {facts_of(other).channels} channel(s), {data.dataset} {facts_of(data.dataset).channels}",
        )
    elif facts_of(data.dataset).classes not in (None, facts_of(other).classes):
        yield Fault(
            "eval.dataset",
            f"{other} has {facts_of(other).classes} classes, {data.dataset} {facts_of(data.dataset).classes}",
        )


def check_model(model: Model) -> Iterator[Fault]:
    """Faults of [model] alone."""
    takes = ARGUMENTS.get(model.name)
    for name, value in model.args.items():
        if takes is not None and name not in takes:
            allowed = did_you_mean(name, takes) if takes else "it takes none"
            yield Fault(f"model.args.{name}", f"{model.name} does not take it; {allowed}")
        elif takes is not None and name in FLAGS:
            if not isinstance(value, bool):
                yield Fault(f"model.args.{name}", f"true or false is needed, not {quoted(value)}")
        elif takes is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1000):
            yield Fault(f"model.args.{name}", f"a whole number from 1 to 1000 is needed, not {quoted(value)}")


# The methods that a setting of [target] belongs to.
BELONGS = {
    "lsc": ("system", "order", "loss", "radius", "cluster_radius", "weights", "within", "within_weight"),
    "ce": ("bottleneck", "teacher", "teacher_weight"),
    "ce or ssl": ("temperature",),
}
_LACKS = {
    "lsc": "with lsc the latent dimension is model.dim and there is no class layer",
    "ce": "cross-entropy (ce) has no vector system",
    "ssl": "self-supervision (ssl) has neither vectors nor a class layer",
}


def check_target(target: Target) -> Iterator[Fault]:
    """Faults of [target] that need no number of classes."""
    for methods, keys in BELONGS.items():
        for key in keys:
            if target.method not in methods.split(" or ") and getattr(target, key) not in (None, "none"):
                yield Fault(f"target.{key}", f"belongs to {methods}; {_LACKS[target.method]}. Leave it out")
    if target.method == "lsc" and target.system is None:
        yield Fault("target.system", f"is required for lsc. Allowed: {', '.join(system_names())}")
    if target.weights is not None and (min(target.weights) < 0 or sum(target.weights) == 0):
        yield Fault("target.weights", "two numbers from 0 are needed, one of them above 0")
    if target.within_weight is not None and target.within in (None, "none") and target.method == "lsc":
        yield Fault("target.within_weight", 'needs target.within = "kld" or "gaussian"')
    if target.method == "ce" and target.teacher is None:
        for key in ("teacher_weight", "temperature"):
            if getattr(target, key) is not None:
                yield Fault(f"target.{key}", 'needs target.teacher, like "@ce"')


def check_optimizer(optimizer: Optimizer) -> Iterator[Fault]:
    """Faults of [optimizer] alone."""
    if optimizer.name != "sgd" and optimizer.momentum is not None:
        yield Fault("optimizer.momentum", f"belongs to sgd, and the optimizer is {optimizer.name}")
    if optimizer.schedule == "steps":
        if not optimizer.milestones:
            yield Fault("optimizer.milestones", 'is required for schedule "steps", like ["100 epochs", "150 epochs"]')
    else:
        for key in ("milestones", "gamma"):
            if getattr(optimizer, key) is not None:
                yield Fault(f"optimizer.{key}", f'belongs to schedule "steps", and it is "{optimizer.schedule}"')


def check_space(system: str, n: int, classes: int) -> Iterator[Fault]:
    """Faults of a vector system with a latent dimension and a number of classes."""
    from lsc_engine.vectors.registry import too_few

    if system == "planar" and n != 2:
        yield Fault("model.dim", f"planar lies in the plane: n = 2, not {n}")
    elif system == "simplex" and n < classes - 1:
        needed = f"a simplex of {grouped(classes)} classes needs n >= {grouped(classes - 1)}, not {grouped(n)}"
        yield Fault("model.dim", f"{needed}. Take that, or V21 from n = {smallest('V21', classes)}")
    else:
        try:
            message = too_few(system, n, classes)
        except UsageError as error:
            message = str(error)
        if message:
            yield Fault("model.dim", message)


def smallest(system: str, classes: int) -> int:
    """The smallest n at which `system` has vectors for `classes` classes."""
    from lsc_engine.vectors.registry import n_min

    return n_min(system, classes)


def system_names() -> tuple[str, ...]:
    """The names offered where a system is asked for."""
    from lsc_engine.vectors.registry import plugin_names, suggested

    return (*suggested(), "Vpq", *plugin_names())
