"""From what a preset says to what a run does: every default filled in, every combination checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lsc_engine.common.formatting import grouped, quoted
from lsc_engine.config import checks, datasets, fixed
from lsc_engine.config.durations import Duration
from lsc_engine.config.faults import Fault
from lsc_engine.config.folders import FolderError
from lsc_engine.config.references import check_reference, moved_centres, references
from lsc_engine.config.schema import Settings
from lsc_engine.config.sections import Checkpoint, Data, Eval, Log, Model, Optimizer, Section, Target, Train
from lsc_engine.config.tables import table_shape
from lsc_engine.config.values import DIM_MAX
from lsc_engine.errors import UsageError
from lsc_engine.userpaths import user_path

Part = TypeVar("Part", bound=Section)
# Latent dimension of a class layer's input where the preset names none.
OWN_WIDTH = {"encoder": 384, "mlp": 400, "vit-s": 384, "vit-b": 768}
EVAL_IMAGES = 10_240
TABLES = ("embeddings:", "file:")
# Ours: of SimCLR on small images, of common practice in distillation, and half of each loss; see heads/.
SSL_TEMPERATURE, TEACHER_TEMPERATURE, TEACHER_WEIGHT, WITHIN_WEIGHT = 0.5, 4.0, 0.5, 0.1


@dataclass
class Resolved:
    """Settings (None where there are faults), faults and warnings of one variant."""

    settings: Settings | None = None
    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)


def resolve(
    parts: Mapping[str, Section], start_from: str | None, others: Mapping[str, Settings], *, record: bool = False
) -> Resolved:
    """Fill in and check the sections of one variant. `others` holds the resolved variants it may refer to by @.

    The `record` of a run is complete: its images and tables are not looked for.
    """
    work = _Work(parts, others, record)
    data = work.data()
    model, target = work.space(data)
    train = work.get(Train)
    optimizer = work.optimizer(train)
    model = work.fixed(data, model, target)
    evaluation = work.evaluation(data, adaptive=model.etf_layers == "adaptive")
    if work.trained is not None and train.batch_size > work.trained:
        sentence = f"{grouped(train.batch_size)} is more than the {grouped(work.trained)} training images"
        work.fault("train.batch_size", f"{sentence}; take at most that many")
    result = Resolved(None, work.faults, work.warnings)
    if not work.faults:
        settings = Settings(
            data=data,
            model=model,
            target=target,
            optimizer=optimizer,
            train=train,
            eval=evaluation,
            log=work.get(Log),
            checkpoint=work.get(Checkpoint),
            start_from=start_from,
        )
        _refer(result, settings, others)
        result.settings = None if result.faults else settings
    return result


def _refer(result: Resolved, settings: Settings, others: Mapping[str, Settings]) -> None:
    """Faults and warnings of what is taken from other variants."""
    for reference in references(settings):
        other = others.get(reference.variant) if reference.variant is not None else None
        if other is None:
            continue
        result.faults += check_reference(reference, settings, other)
        moved = moved_centres(settings, other) if reference.key == "start_from" else None
        if moved:
            result.warnings.append(Fault("start_from", f"the classes of {reference.ref} get other centres: {moved}"))
    if settings.data.first_class and settings.start_from is None:
        words = "without start_from no class before it is ever learnt, and evaluation sees them all"
        result.warnings.append(Fault("data.first_class", words))


class _Work:
    """The sections of one variant while they are being completed."""

    def __init__(self, parts: Mapping[str, Section], others: Mapping[str, Settings], record: bool) -> None:
        self.parts = {type(part): part for part in parts.values()}
        self.others, self.record = others, record
        self.faults: list[Fault] = []
        self.warnings: list[Fault] = []
        self.counts = datasets.Counts(None, None, 0, exact=False)
        # Images of the classes that are trained on: all, but for data.first_class.
        self.trained: int | None = None

    def get(self, kind: type[Part]) -> Part:
        part = self.parts[kind]
        assert isinstance(part, kind)
        return part

    def fault(self, key: str, message: str) -> None:
        self.faults.append(Fault(key, message))

    def warn(self, key: str, message: str) -> None:
        self.warnings.append(Fault(key, message))

    def path(self, key: str, text: str) -> Path | None:
        """The whole path of a file or folder that `key` names; None, with a fault, where ~ leads nowhere."""
        try:
            return user_path(text).absolute()
        except UsageError as error:
            self.fault(key, str(error))
            return None

    def data(self) -> Data:
        data = self.get(Data)
        known = self.record and data.classes is not None
        found, blocked = self._check(data, look=not known)
        changes: dict[str, Any] = {}
        if data.image_size is None:
            changes["image_size"] = datasets.facts_of(data.dataset).size
        if data.path is not None:
            path = self.path("data.path", data.path)
            changes["path"] = str(path)
            found += [] if path else self.faults[-1:]
        if known:
            self.counts = datasets.Counts(None, data.classes, 0, exact=False)
        elif not found and not blocked:
            changes["classes"] = self._count(data)
        if not found and self.counts.classes is not None:
            self.faults += checks.check_first_class(data, self.counts.classes)
        if not data.first_class:
            changes["first_class"] = None
        if not data.skip_bad:
            changes["skip_bad"] = None
        return data.model_copy(update=changes)

    def _check(self, data: Data, *, look: bool) -> tuple[list[Fault], bool]:
        """Faults of [data] alone, and whether its folders cannot be read: that is reported by whoever needs the images,
        since a run is read without them."""
        try:
            found = list(checks.check_data(data, look=look))
        except FolderError:
            return [], True
        self.faults += found
        return found, False

    def _count(self, data: Data) -> int | None:
        """Count the images; how many classes there are, None where that is not known."""
        try:
            if data.skip_bad:
                # How many images can be read is known once all were looked at; settings do not depend on that.
                classes = datasets.class_count(data.dataset, data.labels, data.classes, path=data.path)
                self.counts = datasets.Counts(None, classes, 0, exact=False)
            else:
                self.counts = datasets.count(data.dataset, data.labels, data.classes, path=data.path)
            self.trained = datasets.trained_images(data.dataset, data.labels, data.first_class, self.counts, data.path)
            if 0 in (self.counts.images, self.counts.classes) and data.dataset in datasets.IMAGE_FILES:
                self.fault("data.path", datasets.no_training_images(data.dataset, None, data.path))
                self.counts, self.trained = datasets.Counts(None, None, 0, exact=False), None
        except FolderError:
            return data.classes
        return self.counts.classes

    def space(self, data: Data) -> tuple[Model, Target]:
        """Model and target together: n and the vectors hang on each other."""
        model, target = self.get(Model), self.get(Target)
        self.faults += [*checks.check_model(model), *checks.check_target(target)]
        if model.width != 1.0 and model.name not in ("encoder", "mlp"):
            self.warn("model.width", f"has no effect on {model.name}")
        if target.method == "ce":
            return self._class_layer(model, target)
        if target.method == "ssl":
            return self._self_supervised(model, target)
        if target.system is None:
            return model, target
        dim = self._dim(model, target.system)
        return model.model_copy(update={"dim": dim}), self._loss(target)

    def _own_dim(self, model: Model, target: Target) -> Model:
        """The model with its latent dimension where no vector system decides it."""
        if model.dim == "min":
            none = f'"min" is the smallest n of target.system, and {target.method} has none; give a number'
            self.fault("model.dim", none)
        elif model.dim is None:
            own = fixed.mlp_width(model) if fixed.class_layer_counts(model) else OWN_WIDTH.get(model.name)
            return model.model_copy(update={"dim": own})
        return model

    def _self_supervised(self, model: Model, target: Target) -> tuple[Model, Target]:
        if self.get(Data).augment != "none":
            self.fault("data.augment", "ssl makes two views of each image by itself; leave it out")
        if self.get(Train).batch_size < 2:
            self.fault("train.batch_size", "ssl tells the images of a batch apart and needs at least 2")
        temperature = SSL_TEMPERATURE if target.temperature is None else target.temperature
        return self._own_dim(model, target), target.model_copy(update={"temperature": temperature})

    def _class_layer(self, model: Model, target: Target) -> tuple[Model, Target]:
        narrow: int | str = "none" if target.bottleneck is None else target.bottleneck
        if isinstance(narrow, str) and narrow.startswith("min:"):
            system = narrow.removeprefix("min:")
            if system.startswith(TABLES):
                self.fault("target.bottleneck", f"{quoted(system)} has no smallest n; name a family, like min:V21")
            elif self.counts.classes is not None:
                narrow = checks.smallest(system, self.counts.classes)
                if narrow > DIM_MAX:
                    self.fault(
                        "target.bottleneck", f"{system} needs {grouped(narrow)}, and {grouped(DIM_MAX)} is the most"
                    )
        changes: dict[str, Any] = {"bottleneck": narrow}
        if target.teacher is not None:
            changes["teacher_weight"] = TEACHER_WEIGHT if target.teacher_weight is None else target.teacher_weight
            changes["temperature"] = TEACHER_TEMPERATURE if target.temperature is None else target.temperature
        return self._own_dim(model, target), target.model_copy(update=changes)

    def fixed(self, data: Data, model: Model, target: Target) -> Model:
        """The model with its fixed layers filled in and checked."""
        self.faults += fixed.check_class_layer(model, target)
        narrow = target.bottleneck if isinstance(target.bottleneck, int) else None
        found = list(fixed.check_layers(model, target, self.counts.classes, narrow))
        if model.etf_layers == "adaptive" and (data.labels == "unique" or target.method == "ssl"):
            without = "unique labels have one image a class" if data.labels == "unique" else "ssl learns no classes"
            sentence = f'"adaptive" goes by class centres, and {without}'
            found.append(Fault("model.etf_layers", f"{sentence}; fix layers from the start, or take another method"))
        self.faults += found
        self.warnings += fixed.idle(model)
        return model.model_copy(update=fixed.filled(model))

    def _dim(self, model: Model, system: str) -> int | str | None:
        classes = self.counts.classes
        if system.startswith(TABLES):
            return self._table_dim(model, system, classes)
        if classes is None:
            return model.dim if model.dim is not None else "min"
        if isinstance(model.dim, int):
            self.faults += checks.check_space(system, model.dim, classes)
            return model.dim
        least = checks.smallest(system, classes)
        if least > DIM_MAX:
            words = (
                f"{system} needs n = {grouped(least)} for {grouped(classes)} classes, at most {grouped(DIM_MAX)} goes"
            )
            other = next(name for name in ("V22", "V33", "V44") if checks.smallest(name, classes) <= DIM_MAX)
            self.fault("model.dim", f"{words}; {other} does with n = {grouped(checks.smallest(other, classes))}")
        return least

    def _table_dim(self, model: Model, system: str, classes: int | None) -> int | str | None:
        kind, _, ref = system.partition(":")
        rows: int | None = None
        columns: int | str | None = None
        if kind == "file":
            if (path := self.path("target.system", ref)) is None:
                return model.dim
            try:
                rows, columns = table_shape(path)
            except ValueError as error:
                if not (self.record and isinstance(model.dim, int)):
                    self.fault("target.system", str(error))
                return model.dim
        elif ref.startswith("@"):
            other = self.others.get(ref[1:])
            if other is None:
                return model.dim
            rows, columns = other.data.classes, other.model.dim
        if rows is not None and classes is not None and rows < classes:
            self.fault("target.system", f"{system} has {grouped(rows)} rows, {grouped(classes)} classes need one each")
        if isinstance(columns, int):
            if isinstance(model.dim, int) and model.dim != columns:
                self.fault("model.dim", f"{system} has n = {columns}, not {model.dim}; leave it out, or give {columns}")
            return columns
        if not isinstance(model.dim, int):
            self.fault("model.dim", f"give the width of the embeddings of {quoted(ref)} as a number")
        return model.dim

    def _loss(self, target: Target) -> Target:
        system = str(target.system)
        kind, _, ref = system.partition(":")
        within = None if target.within == "none" else target.within
        changes: dict[str, Any] = {"within": within, "within_weight": target.within_weight if within else None}
        if within and target.within_weight is None:
            changes["within_weight"] = WITHIN_WEIGHT
        changes |= {"order": target.order or "shuffled", "loss": target.loss or "cosine"}
        if kind == "file":
            changes["system"] = f"file:{self.path('target.system', ref)}"
        if kind == "embeddings" and target.order is None:
            self.warn("target.order", 'shuffled gives each class the mean of another; "sequential" gives it its own')
        slots = max(4, 1 << ((self.counts.classes or 4) - 1).bit_length())
        lengths: dict[str, Any] = {"radius": 1.0, "cluster_radius": 0.0, "weights": (1.0, 1.0)}
        if system == "planar":
            lengths |= {"radius": 5.0, "cluster_radius": 4 / slots}
        used = {"distance": ("radius", "cluster_radius"), "cosine+distance": tuple(lengths)}.get(changes["loss"], ())
        for key, default in lengths.items():
            given = getattr(target, key)
            if key in used and given is not None:
                lengths[key] = given
            elif given not in (None, default):
                self.warn(f"target.{key}", f"has no effect on the {changes['loss']} loss")
        if used:
            self._zero_is_free(lengths["radius"], lengths["cluster_radius"])
        return target.model_copy(update=changes | lengths)

    def _zero_is_free(self, radius: float | str, within: float) -> None:
        # The shortest vectors of every family have length 1 or more.
        length = 1.0 if isinstance(radius, str) else radius
        if length <= within:
            self.warn(
                "target.radius",
                f"{length:g} is at or below cluster_radius {within:g}: every output within {within:g} of a centre has "
                "loss 0, 0 itself included",
            )

    def optimizer(self, train: Train) -> Optimizer:
        optimizer = self.get(Optimizer)
        found = list(checks.check_optimizer(optimizer))
        self.faults += found
        changes: dict[str, Any] = {}
        if optimizer.name == "sgd" and optimizer.momentum is None:
            changes["momentum"] = 0.9
        if optimizer.schedule == "steps" and optimizer.gamma is None:
            changes["gamma"] = 0.1
        if not found and self.trained is not None and self.trained >= train.batch_size:
            self._moments(optimizer, train, self.trained // train.batch_size)
        return optimizer.model_copy(update=changes)

    def _moments(self, optimizer: Optimizer, train: Train, epoch: int) -> None:
        def steps(text: str) -> int:
            return Duration.parse(text).steps(epoch, train.batch_size)

        total = steps(train.duration)
        if steps(optimizer.warmup) >= total:
            self.fault("optimizer.warmup", f"{optimizer.warmup} is not shorter than the training, {train.duration}")
        points = [steps(text) for text in optimizer.milestones or ()]
        if points != sorted(set(points)):
            self.fault("optimizer.milestones", "each must come after the one before")
        if points and points[-1] >= total:
            self.fault("optimizer.milestones", f"the last is not before the end of the training, {train.duration}")

    def evaluation(self, data: Data, *, adaptive: bool) -> Eval:
        evaluation = self.get(Eval)
        self.faults += checks.check_eval(data, evaluation)
        if evaluation.ncc and self.get(Target).method == "ssl":
            self.fault("eval.ncc", "ssl has no classes whose centres it could learn; leave it out")
        if adaptive and evaluation.ncc is False:
            self.fault("eval.ncc", 'adaptive layers go by it; leave it out, or take model.etf_layers = "none"')
        evaluation = evaluation.model_copy(update={"ncc": True if adaptive else evaluation.ncc or None})
        images = self.counts.images
        if evaluation.shift == "none":
            evaluation = evaluation.model_copy(update={"shift": None})
        if images is None:
            return evaluation
        if evaluation.images is not None and evaluation.images > images:
            self.warn("eval.images", f"{grouped(evaluation.images)} is more than the {grouped(images)} training images")
        wanted = evaluation.images if evaluation.images is not None else EVAL_IMAGES
        return evaluation.model_copy(update={"images": min(wanted, images)})
