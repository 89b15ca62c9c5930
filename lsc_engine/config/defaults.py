"""From what a preset says to what a run does: every default that hangs on other settings, every combination checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lsc_engine.common.errors import UsageError
from lsc_engine.common.formatting import grouped, quoted
from lsc_engine.common.userpaths import user_path
from lsc_engine.config import checks
from lsc_engine.config.references import check_reference, moved_centres, references
from lsc_engine.config.schema import AdamW, CrossEntropy, Data, Eval, Lsc, Model, Settings, Sgd, Ssl, Train
from lsc_engine.config.validation_errors import ValidationIssue as Issue
from lsc_engine.config.values import DIM_MAX, Duration
from lsc_engine.config.vector_file import table_shape
from lsc_engine.data.class_folders import FolderError
from lsc_engine.data.dataset import Counts, data_set
from lsc_engine.data.datasets.image_folders import ImageFolders
from lsc_engine.data.label_changes import long_tail
from lsc_engine.registry import LOSSES
from lsc_engine.vectors.registry import n_min

EVAL_IMAGES = 10_240
TABLES = ("embeddings:", "file:")
# Ours: of common practice in distillation, and half of each loss; see heads/.
TEACHER_TEMPERATURE, TEACHER_WEIGHT, WITHIN_WEIGHT = 4.0, 0.5, 0.1
# Of softmax over a system, ours.
SYSTEM_SCALE = 16.0
# Those of the papers of CosFace and ArcFace.
MARGIN_SCALE, MARGINS = 64.0, {"cosface": 0.35, "arcface": 0.5}
MOMENTUM = 0.99
ETF_FRAME, ETF_THRESHOLD, ETF_PATIENCE = "canonical", 0.9, 6


@dataclass
class Resolved:
    """Settings (None where there are mistakes), mistakes and warnings of one variant."""

    settings: Settings | None = None
    issues: list[Issue] = field(default_factory=list)
    warnings: list[Issue] = field(default_factory=list)


def resolve(settings: Settings, others: Mapping[str, Settings], *, record: bool = False) -> Resolved:
    """Fill in and check the settings of one variant. `others` holds the resolved variants it may refer to by @.

    The `record` of a run is complete: its images and tables are not looked for.
    """
    work = DefaultsResolver(settings, others, record)
    data = work.data()
    model, target = work.space(data)
    optimizer = work.optimizer()
    model = work.fixed(data, model, target)
    evaluation = work.evaluation(data, adaptive=model.etf_layers == "adaptive")
    batch = settings.train.batch_size
    if work.trained is not None and batch > work.trained:
        sentence = f"{grouped(batch)} is more than the {grouped(work.trained)} training images"
        work.issue("train.batch_size", f"{sentence}; take at most that many")
    result = Resolved(None, work.issues, work.warnings)
    if not work.issues:
        parts = {"data": data, "model": model, "target": target, "optimizer": optimizer, "eval": evaluation}
        resolved = settings.model_copy(update=parts)
        _refer(result, resolved, others)
        result.settings = None if result.issues else resolved
    return result


def _refer(result: Resolved, settings: Settings, others: Mapping[str, Settings]) -> None:
    """Issues and warnings of what is taken from other variants."""
    for reference in references(settings):
        other = others.get(reference.variant) if reference.variant is not None else None
        if other is None:
            continue
        result.issues += check_reference(reference, settings, other)
        moved = moved_centres(settings, other) if reference.key == "start_from" else None
        if moved:
            result.warnings.append(Issue("start_from", f"the classes of {reference.ref} get other centres: {moved}"))
    if settings.data.first_class and settings.start_from is None:
        words = "without start_from no class before it is ever learnt, and evaluation sees them all"
        result.warnings.append(Issue("data.first_class", words))


class DefaultsResolver:
    """The sections of one variant while they are being completed."""

    def __init__(self, settings: Settings, others: Mapping[str, Settings], record: bool) -> None:
        self.settings, self.others, self.record = settings, others, record
        self.issues: list[Issue] = []
        self.warnings: list[Issue] = []
        self.counts = Counts(None, None, 0, exact=False)
        # Images of the classes that are trained on: all, but for data.first_class.
        self.trained: int | None = None

    def issue(self, key: str, message: str) -> None:
        self.issues.append(Issue(key, message))

    def warn(self, key: str, message: str) -> None:
        self.warnings.append(Issue(key, message))

    def path(self, key: str, text: str) -> Path | None:
        """The whole path of a file or folder that `key` names; None, with an issue, where ~ leads nowhere."""
        try:
            return user_path(text).absolute()
        except UsageError as error:
            self.issue(key, str(error))
            return None

    def data(self) -> Data:
        data = self.settings.data
        known = self.record and data.classes is not None
        found, blocked = self._check(data, look=not known)
        changes: dict[str, Any] = {}
        if data.image_size is None:
            changes["image_size"] = data_set(data.dataset).facts.size
        if data.path is not None:
            path = self.path("data.path", data.path)
            changes["path"] = str(path)
            found += [] if path else self.issues[-1:]
        if known:
            self.counts = Counts(None, data.classes, 0, exact=False)
        elif not found and not blocked:
            changes["classes"] = self._count(data)
        if not found and self.counts.classes is not None:
            self.issues += checks.check_first_class(data, self.counts.classes)
        if not data.first_class:
            changes["first_class"] = None
        changes |= {key: None for key in ("skip_bad", "label_noise") if not getattr(data, key)}
        if data.imbalance == 1:
            changes["imbalance"] = None
        return data.model_copy(update=changes)

    def _check(self, data: Data, *, look: bool) -> tuple[list[Issue], bool]:
        """Issues in [data] alone, and whether its folders cannot be read: that is reported by whoever needs the images,
        since a run is read without them."""
        try:
            found = list(checks.check_data(data, look=look))
        except FolderError:
            return [], True
        self.issues += found
        return found, False

    def _count(self, data: Data) -> int | None:
        """Count the images; how many classes there are, None where that is not known."""
        chosen = data_set(data.dataset)
        try:
            if data.skip_bad or chosen.counted_late:
                # How many images there are is known once all were looked at or made; settings do not depend on that.
                classes = chosen.class_count(data.labels, data.classes, path=data.path)
                self.counts = Counts(None, classes, 0, exact=False)
            else:
                self.counts = chosen.count(data.labels, data.classes, path=data.path)
            if data.imbalance and data.labels == "class" and self.counts.images and self.counts.classes:
                sizes = long_tail(chosen.class_sizes(self.counts.classes, path=data.path), data.imbalance)
                self.counts = replace(self.counts, images=sum(sizes))
            self.trained = chosen.trained_images(data.labels, data.first_class, self.counts, path=data.path)
            if 0 in (self.counts.images, self.counts.classes) and isinstance(chosen, ImageFolders):
                self.issue("data.path", chosen.no_training_images(None, data.path))
                self.counts, self.trained = Counts(None, None, 0, exact=False), None
        except FolderError:
            return data.classes
        return self.counts.classes

    def space(self, data: Data) -> tuple[Model, Lsc | CrossEntropy | Ssl]:
        """Model and target together: n and the vectors hang on each other."""
        model, target = self.settings.model, self.settings.target
        self.issues += [*checks.check_model(model), *checks.check_target(target)]
        if model.width != 1.0 and model.name not in ("encoder", "mlp"):
            self.warn("model.width", f"has no effect on {model.name}")
        if isinstance(target, Lsc):
            dim = self._dim(model, target.system)
            if target.loss == "softmax" and isinstance(dim, int) and self.counts.classes is not None:
                self.issues += checks.check_partition(target.system, dim, self.counts.classes)
            return model.model_copy(update={"dim": dim}), self._loss(target)
        model = self._own_dim(model, target)
        if isinstance(target, CrossEntropy):
            return model, self._class_layer(target)
        if data.augment != "none":
            self.issue("data.augment", "ssl makes two views of each image by itself; leave it out")
        if self.settings.train.batch_size < 2:
            self.issue("train.batch_size", "ssl tells the images of a batch apart and needs at least 2")
        return model, target

    def _own_dim(self, model: Model, target: CrossEntropy | Ssl) -> Model:
        """The model with its latent dimension where no vector system decides it."""
        if model.dim == "min":
            none = f'"min" is the smallest n of target.system, and {target.method} has none; give a number'
            self.issue("model.dim", none)
        elif model.dim is None:
            own = checks.backbone_of(model).own_dim(model.width)
            return model.model_copy(update={"dim": own})
        return model

    def _class_layer(self, target: CrossEntropy) -> CrossEntropy:
        changes: dict[str, Any] = {}
        loss = "normalized" if target.system and target.loss is None else target.loss
        changes["loss"] = None if loss == "softmax" else loss
        if target.system is not None and target.momentum is None:
            changes["momentum"] = MOMENTUM
        if loss in ("normalized", *MARGINS) and target.scale is None:
            changes["scale"] = SYSTEM_SCALE if loss == "normalized" else MARGIN_SCALE
        if loss in MARGINS and target.margin is None:
            changes["margin"] = MARGINS[loss]
        narrow = target.bottleneck
        if isinstance(narrow, str):
            system = narrow.removeprefix("min:")
            if system.startswith(TABLES):
                self.issue("target.bottleneck", f"{quoted(system)} has no smallest n; name a family, like min:V21")
            elif self.counts.classes is not None:
                least = self._least("target.bottleneck", system, self.counts.classes)
                changes["bottleneck"] = narrow if least is None else least
                if least is not None and least > DIM_MAX:
                    sentence = f"{system} needs {grouped(least)}, and {grouped(DIM_MAX)} is the most"
                    self.issue("target.bottleneck", sentence)
        if target.teacher is not None:
            changes["teacher_weight"] = TEACHER_WEIGHT if target.teacher_weight is None else target.teacher_weight
            changes["temperature"] = TEACHER_TEMPERATURE if target.temperature is None else target.temperature
        return target.model_copy(update=changes)

    def fixed(self, data: Data, model: Model, target: Lsc | CrossEntropy | Ssl) -> Model:
        """The model with its fixed layers filled in and checked."""
        self.issues += checks.check_class_layer(model, target)
        found = list(checks.check_layers(model, target, self.counts.classes))
        if model.etf_layers == "adaptive" and (data.labels == "unique" or isinstance(target, Ssl)):
            without = "unique labels have one image a class" if data.labels == "unique" else "ssl learns no classes"
            sentence = f'"adaptive" goes by class centres, and {without}'
            found.append(Issue("model.etf_layers", f"{sentence}; fix layers from the start, or take another method"))
        self.issues += found
        self.warnings += checks.check_idle_etf(model)
        changes: dict[str, Any] = {}
        if model.etf_layers is not None:
            changes["etf_frame"] = model.etf_frame or ETF_FRAME
        if model.etf_layers == "adaptive":
            changes["etf_threshold"] = model.etf_threshold or ETF_THRESHOLD
            changes["etf_patience"] = model.etf_patience or ETF_PATIENCE
        idle = {key: None for key in ("etf_frame", "etf_threshold", "etf_patience") if key not in changes}
        return model.model_copy(update=changes | idle)

    def _dim(self, model: Model, system: str) -> int | str | None:
        classes = self.counts.classes
        if system.startswith(TABLES):
            return self._table_dim(model, system, classes)
        if classes is None:
            return model.dim if model.dim is not None else "min"
        if isinstance(model.dim, int):
            self.issues += checks.check_space(system, model.dim, classes)
            return model.dim
        least = self._least("model.dim", system, classes)
        if least is None:
            return model.dim
        if least > DIM_MAX:
            words = (
                f"{system} needs n = {grouped(least)} for {grouped(classes)} classes, at most {grouped(DIM_MAX)} goes"
            )
            other = next(name for name in ("V22", "V33", "V44") if n_min(name, classes) <= DIM_MAX)
            self.issue("model.dim", f"{words}; {other} does with n = {grouped(n_min(other, classes))}")
        return least

    def _least(self, key: str, system: str, classes: int) -> int | None:
        """n_min; None, with an issue, where no n holds the classes."""
        try:
            return n_min(system, classes)
        except UsageError as error:
            self.issue(key, str(error))
            return None

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
                    self.issue("target.system", str(error))
                return model.dim
        elif ref.startswith("@"):
            other = self.others.get(ref[1:])
            if other is None:
                return model.dim
            rows, columns = other.data.classes, other.model.dim
        if rows is not None and classes is not None and rows < classes:
            self.issue("target.system", f"{system} has {grouped(rows)} rows, {grouped(classes)} classes need one each")
        if isinstance(columns, int):
            if isinstance(model.dim, int) and model.dim != columns:
                self.issue("model.dim", f"{system} has n = {columns}, not {model.dim}; leave it out, or give {columns}")
            return columns
        if not isinstance(model.dim, int):
            self.issue("model.dim", f"give the width of the embeddings of {quoted(ref)} as a number")
        return model.dim

    def _loss(self, target: Lsc) -> Lsc:
        system = target.system
        kind, _, ref = system.partition(":")
        changes: dict[str, Any] = {}
        if target.within is not None and target.within_weight is None:
            changes["within_weight"] = WITHIN_WEIGHT
        if kind == "file":
            changes["system"] = f"file:{self.path('target.system', ref)}"
        if kind == "embeddings" and "order" not in target.model_fields_set:
            self.warn("target.order", 'shuffled gives each class the mean of another; "sequential" gives it its own')
        slots = max(4, 1 << ((self.counts.classes or 4) - 1).bit_length())
        lengths: dict[str, Any] = {"radius": 1.0, "cluster_radius": 0.0, "weights": (1.0, 1.0)}
        if system == "planar":
            lengths |= {"radius": 5.0, "cluster_radius": 4 / slots}
        loss = LOSSES.built_in.get(target.loss)
        used = loss.model_fields if loss else {}
        for key, default in lengths.items():
            given = getattr(target, key)
            if key in used and given is not None:
                lengths[key] = given
            elif given not in (None, default):
                self.warn(f"target.{key}", f"has no effect on the {target.loss} loss")
        if "cluster_radius" in used:
            # The shortest vectors of every family have length 1 or more.
            length = 1.0 if isinstance(lengths["radius"], str) else lengths["radius"]
            within = lengths["cluster_radius"]
            if length <= within:
                zero = f"every output within {within:g} of a centre has loss 0, 0 itself included"
                self.warn("target.radius", f"{length:g} is at or below cluster_radius {within:g}: {zero}")
        for key, default in {"scale": SYSTEM_SCALE, "batch_axis": "rows"}.items():
            if key in used and getattr(target, key) is None:
                changes[key] = default
        return target.model_copy(update=changes | lengths)

    def optimizer(self) -> AdamW | Sgd:
        optimizer, batch = self.settings.optimizer, self.settings.train.batch_size
        found = list(checks.check_optimizer(optimizer))
        self.issues += [*found, *checks.check_train(self.settings.train, self.settings.target)]
        if not found and self.trained is not None and self.trained >= batch:
            self._moments(optimizer, self.settings.train, self.trained // batch)
        if optimizer.schedule == "steps" and optimizer.gamma is None:
            optimizer = optimizer.model_copy(update={"gamma": 0.1})
        return optimizer

    def _moments(self, optimizer: AdamW, train: Train, epoch: int) -> None:
        def steps(text: str) -> int:
            return Duration.parse(text).steps(epoch, train.batch_size)

        total = steps(train.duration)
        target = self.settings.target
        again = [steps(text) for text in (isinstance(target, Lsc) and target.reassign) or ()]
        if again and max(again) >= total:
            self.issue("target.reassign", f"the last is not before the end of the training, {train.duration}")
        if steps(optimizer.warmup) >= total:
            self.issue("optimizer.warmup", f"{optimizer.warmup} is not shorter than the training, {train.duration}")
        points = [steps(text) for text in optimizer.milestones or ()]
        if points != sorted(set(points)):
            self.issue("optimizer.milestones", "each must come after the one before")
        if points and points[-1] >= total:
            self.issue("optimizer.milestones", f"the last is not before the end of the training, {train.duration}")

    def evaluation(self, data: Data, *, adaptive: bool) -> Eval:
        evaluation = self.settings.eval
        self.issues += checks.check_eval(data, evaluation)
        if evaluation.ncc and isinstance(self.settings.target, Ssl):
            self.issue("eval.ncc", "ssl has no classes whose centres it could learn; leave it out")
        if adaptive and evaluation.ncc is False:
            self.issue("eval.ncc", 'adaptive layers go by it; leave it out, or take model.etf_layers = "none"')
        if isinstance(self.settings.target, Ssl) and "ece" in (evaluation.also or ()):
            self.issue("eval.also", "ece is the error of probabilities, and ssl gives none; leave it out")
        changes = {"ncc": True if adaptive else evaluation.ncc or None, "also": evaluation.also or None}
        evaluation = evaluation.model_copy(update=changes)
        images = self.counts.images
        if images is None:
            return evaluation
        if evaluation.images is not None and evaluation.images > images:
            self.warn("eval.images", f"{grouped(evaluation.images)} is more than the {grouped(images)} training images")
        wanted = evaluation.images if evaluation.images is not None else EVAL_IMAGES
        return evaluation.model_copy(update={"images": min(wanted, images)})
