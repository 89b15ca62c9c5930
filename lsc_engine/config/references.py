"""Whether what a run takes from another one fits: class means, weights, a teacher."""

from __future__ import annotations

from collections.abc import Iterator

from lsc_engine.common.formatting import grouped, quoted
from lsc_engine.config.schema import CrossEntropy, Lsc, Reference, Settings
from lsc_engine.config.validation_errors import ValidationIssue as Issue
from lsc_engine.vectors.choice import INIT_ORDER


def check_reference(reference: Reference, own: Settings, other: Settings) -> Iterator[Issue]:
    """Issues in taking from a run with the settings `other` what `reference` asks for."""
    ref, theirs = quoted(reference.ref), other.target
    if reference.key == "target.teacher":
        if not isinstance(theirs, CrossEntropy):
            message = f"{ref} is trained with {theirs.method} and has no logits; a teacher is trained with ce"
            yield Issue("target.teacher", f'{message}. For its class means: target.system = "embeddings:…" with lsc')
        elif theirs.loss is not None:
            yield Issue("target.teacher", f"{ref} is trained with {theirs.loss}; a teacher is trained with softmax")
        elif other.data.classes != own.data.classes:
            needed = f"{own.data.classes} are needed"
            yield Issue("target.teacher", f"{ref} tells {other.data.classes} classes apart, {needed}")
        if other.data.image_size != own.data.image_size:
            sizes = f"{other.data.image_size} px, here they have {own.data.image_size}"
            yield Issue("target.teacher", f"{ref} takes images of {sizes}; teacher and student see the same ones")
    elif reference.key == "target.order":
        n, n_there, need, found = own.model.dim, other.model.dim, own.data.classes, other.data.classes
        if isinstance(n, int) and isinstance(n_there, int) and n != n_there:
            message = f"the class means of {ref} have n = {n_there}, the vectors n = {n}"
            yield Issue("target.order", f"{message}; give both the same model.dim")
        if need is not None and found is not None and found < need:
            few = f"{grouped(found)} class means, {grouped(need)} classes need one each"
            yield Issue("target.order", f"{ref} has {few}")
    elif reference.key == "start_from" and own.model.name != other.model.name:
        message = f"the weights of {ref}, which is {other.model.name}, do not fit {own.model.name}"
        yield Issue("start_from", f"{message}; give both the same model.name")


def moved_centres(own: Settings, other: Settings) -> str | None:
    """Why the classes of `other` have other centres in `own`, as a clause; None where they keep them."""
    a, b = own.target, other.target
    if not isinstance(a, Lsc) or not isinstance(b, Lsc):
        return None
    for key, old, new in (
        ("target.system", b.system, a.system),
        ("target.order", b.order, a.order),
        ("model.dim", other.model.dim, own.model.dim),
    ):
        if old != new:
            return f"{key} was {old} and is {new}"
    if a.order == INIT_ORDER:
        return f'target.order = "{INIT_ORDER}" chooses vectors anew'
    fewer = own.data.classes != other.data.classes
    if fewer and a.system == "simplex":
        return "a simplex of more classes is another one"
    if fewer and a.system == "planar" and a.order == "shuffled":
        return 'the shuffled order of planar depends on the number of its vectors; target.order = "sequential" keeps it'
    return None
