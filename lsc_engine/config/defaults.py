"""From what a preset says to what a run does: every default that hangs on other settings, every combination checked."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pydantic import ValidationError

from lsc_engine.common.duration import Duration
from lsc_engine.common.errors import UsageError, did_you_mean
from lsc_engine.common.formatting import grouped, quoted
from lsc_engine.common.userpaths import user_path
from lsc_engine.config.references import check_reference, moved_centres
from lsc_engine.config.schema import CrossEntropy, Data, Eval, Lsc, Model, Settings, Ssl, acts, meta_of
from lsc_engine.config.validation_errors import ValidationIssue as Issue
from lsc_engine.config.validation_errors import validate
from lsc_engine.config.values import DIM_MAX
from lsc_engine.data.class_folders import FolderError
from lsc_engine.data.dataset import (
    Counts,
    Selection,
    built_in_data_sets,
    data_set,
    facts_of,
    image_file_data_sets,
    long_tail,
)
from lsc_engine.data.datasets.image_folders import ImageFolders
from lsc_engine.registry import LOSSES, MODELS, SYSTEMS
from lsc_engine.vectors.choice import INIT_ORDER
from lsc_engine.vectors.families.tables import table_shape
from lsc_engine.vectors.registry import facts, n_min, too_few

EVAL_IMAGES = 10_240
TABLES = ("embeddings:", "file:")
# Ours: of common practice in distillation, and half of each loss; see heads/.
TEACHER_TEMPERATURE, TEACHER_WEIGHT, WITHIN_WEIGHT = 4.0, 0.5, 0.1
# Of softmax over a system, ours.
SYSTEM_SCALE = 16.0
# Those of the papers of CosFace and ArcFace.
MARGIN_SCALE, MARGINS = 64.0, {"cosface": 0.35, "arcface": 0.5}
MOMENTUM = 0.99
ADAPTIVE = {"etf_threshold": 0.9, "etf_patience": 6}
# Of others an idle value has no effect, as older presets have it.
_REFUSED_IDLE = ("scale", "batch_axis", "margin", "momentum")
# Of timm models and plugins nothing is known here.
_UNKNOWN = SimpleNamespace(linear_layers=0, all_linear=False, own_dim=lambda width: None)
_LOST = Counts(None, None, 0, exact=False)


class DefaultsResolver:
    """Fills in and checks the settings of one variant: `settings` (None if it has mistakes), `issues` and
    `warnings`. `others` holds the resolved variants it may refer to by @. The `record` of a run is complete: its images
    and tables are not looked for."""

    def __init__(self, given: Settings, others: Mapping[str, Settings], *, record: bool = False) -> None:
        self.given, self.others, self.record = given, others, record
        self.issues: list[Issue] = []
        self.warnings: list[Issue] = []
        self.unique, self.ssl = given.data.labels == "unique", isinstance(given.target, Ssl)
        self.counts = _LOST
        # Images of the classes that are trained on: all, but for data.first_class.
        self.trained: int | None = None
        parts: dict[str, Any] = {"data": self._data(), "target": given.target, "model": given.model}
        self._model_and_target(parts)
        self._train()
        parts["model"] = self._fixed_layers(parts["model"], parts["target"])
        parts["eval"] = self._evaluation()
        also = given.log.also or ()
        self.refuse(len(set(also)) < len(also), "log.also", "names a tool twice")
        if given.optimizer.schedule == "steps" and given.optimizer.gamma is None:
            parts["optimizer"] = given.optimizer.model_copy(update={"gamma": 0.1})
        settings = None if self.issues else given.model_copy(update=parts)
        if settings is not None:
            for reference in settings.references:
                if reference.variant is not None and (other := others.get(reference.variant)) is not None:
                    self.issues += check_reference(reference, settings, other)
                    if reference.key == "start_from" and (moved := moved_centres(settings, other)):
                        self.warn("start_from", f"the classes of {reference.ref} get other centres: {moved}")
            if settings.data.first_class and settings.start_from is None:
                words = "without start_from no class before it is ever learnt, and evaluation sees them all"
                self.warn("data.first_class", words)
        self.settings = None if self.issues else settings

    def issue(self, key: str, message: str) -> None:
        self.issues.append(Issue(key, message))

    def refuse(self, wrong: object, key: str, message: str) -> None:
        """An issue if something is `wrong`."""
        if wrong:
            self.issue(key, message)

    def warn(self, key: str, message: str) -> None:
        self.warnings.append(Issue(key, message))

    def path(self, key: str, text: str) -> Path | None:
        """The whole path of a file or folder that `key` names; None, with an issue, where ~ leads nowhere."""
        try:
            return user_path(text).absolute()
        except UsageError as error:
            self.issue(key, str(error))
            return None

    def _data(self) -> Data:
        data = self.given.data
        known = self.record and data.classes is not None
        try:
            self._check_data(data, look=not known)
            blocked = False
        except FolderError:
            # Folders that cannot be read are reported by whoever needs the images, since a run is read without them.
            self.issues.clear()
            blocked = True
        changes: dict[str, Any] = {}
        if data.image_size is None:
            changes["image_size"] = facts_of(data.dataset).size
        if data.path is not None:
            changes["path"] = str(self.path("data.path", data.path))
        sound = not self.issues
        if known:
            self.counts = Counts(None, data.classes, 0, exact=False)
        elif sound and not blocked:
            changes["classes"] = self._count(data)
        classes, first = self.counts.classes, data.first_class
        if sound and classes is not None and first is not None and first >= classes:
            last = f"the last of {grouped(classes)} classes is {grouped(classes - 1)}"
            self.issue("data.first_class", f"{grouped(first)} leaves no class to train on; {last}")
        changes |= {key: None for key in ("first_class", "skip_bad", "label_noise") if not getattr(data, key)}
        if data.imbalance == 1:
            changes["imbalance"] = None
        return data.model_copy(update=changes)

    def _check_data(self, data: Data, *, look: bool) -> None:
        """Issues in [data] alone; its folder is counted where `look`."""
        chosen, name = data_set(data.dataset), data.dataset
        self.refuse(chosen.built_in and data.path is not None, "data.path", f"{name} needs no files; leave it out")
        folder = f"is required for {name}: a folder with one folder of images per class"
        self.refuse(chosen.needs_path and data.path is None, "data.path", folder)
        size = f"is required for {name}, whose images differ in size; 32 or 224, for example"
        self.refuse(chosen.facts.size is None and data.image_size is None, "data.image_size", size)
        number = f"is required for {name}, which has as many images as are requested"
        self.refuse(chosen.made_from_index and data.classes is None, "data.classes", number)
        if data.skip_bad and not chosen.image_files:
            names = ", ".join(image_file_data_sets())
            self.issue("data.skip_bad", f"belongs to data sets of image files ({names}); leave it out")
        for key in ("label_noise", "imbalance"):
            one = "unique labels have one image a class, none to be wrong or fewer; leave it out"
            self.refuse(self.unique and getattr(data, key) is not None, f"data.{key}", one)
        if data.imbalance is not None and (data.skip_bad or data.first_class):
            other = "skip_bad" if data.skip_bad else "first_class"
            self.issue("data.imbalance", f"cannot be counted together with data.{other}; leave one out")
        limit = chosen.available(Selection.of(data)) if look else None
        if limit is not None and data.classes is not None and data.classes > limit:
            kind = "training images, each its own class" if self.unique else "classes"
            self.issue("data.classes", f"{name} has {grouped(limit)} {kind}; {grouped(data.classes)} are requested")

    def _count(self, data: Data) -> int | None:
        """Count the images; how many classes there are, None where that is not known."""
        chosen, which = data_set(data.dataset), Selection.of(data)
        try:
            if data.skip_bad or chosen.counted_late:
                # How many images there are is known once all were looked at or made; settings do not depend on that.
                classes = data.classes
                if classes is None and not which.unique:
                    classes = chosen.facts.classes or chosen.available(replace(which, skip_bad=True))
                self.counts = Counts(None, classes, 0, exact=False)
            else:
                self.counts = chosen.count(which)
            if data.imbalance and not which.unique and self.counts.images and self.counts.classes:
                sizes = chosen.class_sizes(replace(which, classes=self.counts.classes))
                self.counts = replace(self.counts, images=sum(long_tail(sizes, data.imbalance)))
            self.trained = chosen.trained_images(which, data.first_class, self.counts)
            if 0 in (self.counts.images, self.counts.classes) and isinstance(chosen, ImageFolders):
                self.issue("data.path", chosen.no_training_images(None, data.path))
                self.counts, self.trained = _LOST, None
        except FolderError:
            return data.classes
        return self.counts.classes

    def _model_and_target(self, parts: dict[str, Any]) -> None:
        """Model and target together: n and the vectors hang on each other."""
        model, target = self.given.model, self.given.target
        backbone = MODELS.built_in.get(model.name)
        if backbone is not None and model.args:
            takes = backbone.model_fields
            for issue in validate(backbone, model.args, "model.args")[1]:
                name = issue.key.removeprefix("model.args.")
                allowed = did_you_mean(name, takes) if takes else "it takes none"
                known = issue if name in takes else Issue(issue.key, f"{model.name} does not take it; {allowed}")
                self.issues.append(known)
        self._check_target()
        if model.width != 1.0 and model.name not in ("encoder", "mlp"):
            self.warn("model.width", f"has no effect on {model.name}")
        if isinstance(target, Lsc):
            dim = self._dim(model, target.system)
            parts["model"] = model.model_copy(update={"dim": dim})
            parts["target"] = self._lsc(target, dim)
            return
        if model.dim == "min":
            none = f'"min" is the smallest n of target.system, and {target.method} has none; give a number'
            self.issue("model.dim", none)
        elif model.dim is None:
            parts["model"] = model.model_copy(update={"dim": backbone_of(model).own_dim(model.width)})
        if isinstance(target, CrossEntropy):
            parts["target"] = self._class_layer(target)
            return
        views = "ssl makes two views of each image by itself; leave it out"
        self.refuse(self.given.data.augment != "none", "data.augment", views)
        pairs = "ssl tells the images of a batch apart and needs at least 2"
        self.refuse(self.given.train.batch_size < 2, "train.batch_size", pairs)

    def _check_target(self) -> None:
        """Issues in [target] that need no number of classes."""
        target = self.given.target
        flat = {f"target.{key}": value for key, value in target}
        if isinstance(target, CrossEntropy) and target.system and target.loss is None:
            flat["target.loss"] = "normalized"
        for key in _REFUSED_IDLE:
            needs = meta_of(type(target).model_fields[key]).needs if getattr(target, key, None) is not None else None
            if needs and not acts(f"target.{key}", flat.get):
                words = " or ".join(map(quoted, needs[1]))
                self.issue(f"target.{key}", f"belongs to {needs[0]} = {words}; leave it out")
        if isinstance(target, Lsc):
            wrong = target.weights is not None and (min(target.weights) < 0 or sum(target.weights) == 0)
            self.refuse(wrong, "target.weights", "two numbers from 0 are needed, one of them above 0")
            moved = target.reassign and target.order != INIT_ORDER
            self.refuse(moved, "target.reassign", f'needs target.order = "{INIT_ORDER}"')
            alone = target.within_weight is not None and target.within is None
            self.refuse(alone, "target.within_weight", 'needs target.within = "kld" or "gaussian"')
        elif isinstance(target, CrossEntropy):
            for key in ("teacher_weight", "temperature") if target.teacher is None else ():
                self.refuse(getattr(target, key) is not None, f"target.{key}", 'needs target.teacher, like "@ce"')
            for key in ("system", "loss", "share", "center_weight") if target.teacher is not None else ():
                either = "does not go with target.teacher; leave one of them out"
                self.refuse(getattr(target, key) not in (None, "softmax"), f"target.{key}", either)
            learnt = f"softmax needs a learnt class layer; with {target.system} take normalized"
            self.refuse(target.system and target.loss == "softmax", "target.loss", learnt)

    def _class_layer(self, target: CrossEntropy) -> CrossEntropy:
        changes: dict[str, Any] = {}
        loss = "normalized" if target.system and target.loss is None else target.loss
        changes["loss"] = None if loss == "softmax" else loss
        usual: dict[str, Any] = {"momentum": MOMENTUM} if target.system is not None else {}
        if loss == "normalized":
            usual["scale"] = SYSTEM_SCALE
        elif loss in MARGINS:
            usual |= {"scale": MARGIN_SCALE, "margin": MARGINS[loss]}
        if target.teacher is not None:
            usual |= {"teacher_weight": TEACHER_WEIGHT, "temperature": TEACHER_TEMPERATURE}
        changes |= {key: value for key, value in usual.items() if getattr(target, key) is None}
        narrow, key = target.bottleneck, "target.bottleneck"
        if isinstance(narrow, str):
            system = narrow.removeprefix("min:")
            if system.startswith(TABLES):
                self.issue(key, f"{quoted(system)} has no smallest n; name a family, like min:V21")
            elif self.counts.classes is not None and (least := self._least(key, system)) is not None:
                changes["bottleneck"] = least
                most = f"{system} needs {grouped(least)}, and {grouped(DIM_MAX)} is the most"
                self.refuse(least > DIM_MAX, key, most)
        return target.model_copy(update=changes)

    def _dim(self, model: Model, system: str) -> int | str | None:
        classes = self.counts.classes
        if system.startswith(TABLES):
            return self._table_dim(model, system, classes)
        if classes is None:
            return model.dim if model.dim is not None else "min"
        if isinstance(model.dim, int):
            try:
                fault = too_few(system, model.dim, classes)
            except UsageError as error:
                fault = str(error)
            self.refuse(fault, "model.dim", fault or "")
            return model.dim
        least = self._least("model.dim", system)
        if least is None:
            return model.dim
        if least > DIM_MAX:
            other = next(name for name in ("V22", "V33", "V44") if n_min(name, classes) <= DIM_MAX)
            needs = f"{system} needs n = {grouped(least)} for {grouped(classes)} classes"
            does = f"{other} does with n = {grouped(n_min(other, classes))}"
            self.issue("model.dim", f"{needs}, at most {grouped(DIM_MAX)} goes; {does}")
        return least

    def _least(self, key: str, system: str) -> int | None:
        """n_min for the known number of classes; None, with an issue, where no n holds them."""
        try:
            return n_min(system, self.counts.classes or 0)
        except UsageError as error:
            self.issue(key, str(error))
            return None

    def _table_dim(self, model: Model, system: str, classes: int | None) -> int | str | None:
        kind, _, ref = system.partition(":")
        rows: int | None = None
        columns: int | str | None = None
        if self.record and isinstance(model.dim, int):
            return model.dim  # a run stays readable whatever becomes of the file
        if kind == "file":
            if (path := self.path("target.system", ref)) is None:
                return model.dim
            try:
                rows, columns = table_shape(path)
            except UsageError as error:
                self.issue("target.system", str(error))
                return model.dim
        elif ref.startswith("@"):
            other = self.others.get(ref[1:])
            if other is None:
                return model.dim
            rows, columns = other.data.classes, other.model.dim
        few = rows is not None and classes is not None and rows < classes
        one_each = f"{system} has {grouped(rows)} rows, {grouped(classes)} classes need one each"
        self.refuse(few, "target.system", one_each)
        if isinstance(columns, int):
            differs = f"{system} has n = {columns}, not {model.dim}; leave it out, or give {columns}"
            self.refuse(isinstance(model.dim, int) and model.dim != columns, "model.dim", differs)
            return columns
        unknown = f"give the width of the embeddings of {quoted(ref)} as a number"
        self.refuse(not isinstance(model.dim, int), "model.dim", unknown)
        return model.dim

    def _lsc(self, target: Lsc, dim: int | str | None) -> Lsc:
        kind, _, ref = target.system.partition(":")
        changes: dict[str, Any] = {}
        if target.loss == "softmax" and isinstance(dim, int) and self.counts.classes is not None:
            # Of an impossible n there is an issue already.
            with contextlib.suppress(UsageError):
                fault = facts(target.system, dim, self.counts.classes).partition_fault
                take = f"softmax: {fault}; take batch-softmax, or a system like V21"
                self.refuse(fault, "target.loss", take)
        if target.within is not None and target.within_weight is None:
            changes["within_weight"] = WITHIN_WEIGHT
        if kind == "file":
            changes["system"] = f"file:{self.path('target.system', ref)}"
        if kind == "embeddings" and "order" not in target.model_fields_set:
            self.warn("target.order", 'shuffled gives each class the mean of another; "sequential" gives it its own')
        lengths: dict[str, Any] = {"radius": 1.0, "cluster_radius": 0.0, "weights": (1.0, 1.0)}
        if (system := SYSTEMS.built_in.get(target.system)) is not None:
            lengths |= system.loss_lengths(self.counts.classes or 4)
        loss = LOSSES.built_in.get(target.loss)
        used = loss.model_fields if loss else {}
        for key, default in lengths.items():
            given = getattr(target, key)
            if key in used and given is not None:
                lengths[key] = given
            elif given not in (None, default):
                self.warn(f"target.{key}", f"has no effect on the {target.loss} loss")
        # The shortest vectors of every family have length 1 or more.
        length, within = 1.0 if isinstance(lengths["radius"], str) else lengths["radius"], lengths["cluster_radius"]
        if "cluster_radius" in used and length <= within:
            zero = f"every output within {within:g} of a centre has loss 0, 0 itself included"
            self.warn("target.radius", f"{length:g} is at or below cluster_radius {within:g}: {zero}")
        for key, default in {"scale": SYSTEM_SCALE, "batch_axis": "rows"}.items():
            if key in used and getattr(target, key) is None:
                changes[key] = default
        return target.model_copy(update=changes | lengths)

    def _fixed_layers(self, model: Model, target: Lsc | CrossEntropy | Ssl) -> Model:
        """The model with its fixed layers filled in and checked."""
        backbone, adaptive = backbone_of(model), model.etf_layers == "adaptive"
        # timm models take any argument.
        if "class_layer" in getattr(type(backbone), "model_fields", ()) and backbone.class_layer:
            self._check_class_layer(model, target, backbone.own_dim(model.width))
        if model.etf_layers is not None:
            self._check_layers(model, target, backbone)
        if adaptive and (self.unique or self.ssl):
            without = "unique labels have one image a class" if self.unique else "ssl learns no classes"
            other = "fix layers from the start, or take another method"
            self.issue("model.etf_layers", f'"adaptive" goes by class centres, and {without}; {other}')
        changes: dict[str, Any] = {"etf_frame": None if model.etf_layers is None else model.etf_frame or "canonical"}
        if model.etf_layers is None and model.etf_frame is not None:
            self.warn("model.etf_frame", "has no effect without model.etf_layers")
        for key, default in ADAPTIVE.items():
            changes[key] = (getattr(model, key) or default) if adaptive else None
            if not adaptive and getattr(model, key) is not None:
                self.warn(f"model.{key}", 'has no effect without model.etf_layers = "adaptive"')
        return model.model_copy(update=changes)

    def _check_class_layer(self, model: Model, target: Lsc | CrossEntropy | Ssl, width: int) -> None:
        """Issues in model.args.class_layer, which makes the class layer the last layer of an mlp."""
        key = "model.args.class_layer"
        if not isinstance(target, CrossEntropy):
            last = f"with {target.method} the last linear layer is the embedding's"
            self.issue(key, f"belongs to ce; {last}. Leave it out")
        elif target.system is not None:
            self.issue(key, f"belongs to a class layer that is learnt; with {target.system} leave it out")
        elif model.args.get("layers", 5) == 1:
            self.issue(key, "with one layer there is nothing before the class layer; take model.args.layers from 2")
        elif model.dim not in (None, width):
            hidden = f"the embedding is then the last hidden layer's {width}, not {model.dim}; leave it out"
            self.issue("model.dim", hidden)

    def _check_layers(self, model: Model, target: Lsc | CrossEntropy | Ssl, backbone: Any) -> None:
        """Issues in the fixed layers with the backbone, the head and the number of classes."""
        layers, key, classes = model.etf_layers, "model.etf_layers", self.counts.classes
        learnt = isinstance(target, CrossEntropy) and target.system is None
        bottleneck = target.bottleneck if isinstance(target, CrossEntropy) else None
        # Linear layers in a row up to the output: those of the backbone, the bottleneck, the class layer.
        count = backbone.linear_layers + learnt + (bottleneck is not None)
        first = isinstance(layers, str) and layers.startswith("first:")
        wanted = int(str(layers).removeprefix("first:")) if first or isinstance(layers, int) else 0
        width = bottleneck if isinstance(bottleneck, int) else model.dim
        output = layers == "adaptive" or count - 1 in fixed_layers(layers, count)
        if layers == "feed-forward":
            none = f'{model.name} has no transformer blocks; give the number of its last layers, or "adaptive"'
            self.refuse(backbone.linear_layers, key, none)
        elif layers == "adaptive" and not backbone.linear_layers:
            self.issue(key, f'"adaptive" needs layers in a row, as mlp and encoder have them, not {model.name}')
        elif first and not backbone.all_linear:
            self.issue(key, f"{quoted(layers)} is for mlp; the first layers of {model.name} are no linear layers")
        elif wanted > count:
            linear = "1 linear layer" if count == 1 else f"{count or 'no'} linear layers"
            have = f"{model.name} with {target.method} has {linear} in a row up to the output"
            instead = f"at most {count}" if count else '"feed-forward"'
            instead += ', or "feed-forward"' if count and not backbone.linear_layers else ""
            self.issue(key, f"{have}, {wanted} are to be fixed; take {instead}")
        elif output and learnt and isinstance(width, int) and classes is not None and width < classes - 1:
            where = "target.bottleneck" if bottleneck else "model.dim"
            least = f"{where} >= {grouped(classes - 1)}, not {grouped(width)}"
            self.issue(key, f"the class layer cannot be fixed: a simplex of {grouped(classes)} classes needs {least}")
        elif output and isinstance(target, Lsc) and model.dim == 1:
            self.issue(key, "one output has no simplex; take model.dim from 2")

    def _train(self) -> None:
        """Issues in [optimizer] and [train], with the number of images that are trained on."""
        optimizer, train, model = self.given.optimizer, self.given.train, self.given.model
        transformer = model.name.startswith("timm:") or getattr(MODELS.built_in.get(model.name), "transformer", False)
        if train.residual is not None and train.precision == "float32":
            self.issue("train.residual", 'bf16 needs train.precision = "bf16", or "auto" on a GPU; leave it out')
        elif train.residual is not None and not transformer:
            only = f"belongs to vision transformers, and model.name is {quoted(model.name)}"
            self.issue("train.residual", f"{only}; leave it out, or take vit-s")
        before = len(self.issues)
        if optimizer.schedule != "steps":
            for key in ("milestones", "gamma"):
                other = f'belongs to schedule "steps", and it is "{optimizer.schedule}"'
                self.refuse(getattr(optimizer, key) is not None, f"optimizer.{key}", other)
        elif not optimizer.milestones:
            example = 'is required for schedule "steps", like ["100 epochs", "150 epochs"]'
            self.issue("optimizer.milestones", example)
        sound, batch = len(self.issues) == before, train.batch_size
        self._check_parts(train.parts or 1, batch)
        if self.trained is None:
            return
        if batch > self.trained:
            more = f"{grouped(batch)} is more than the {grouped(self.trained)} training images"
            self.issue("train.batch_size", f"{more}; take at most that many")
        elif sound:
            self._check_moments(self.trained // batch)

    def _check_parts(self, parts: int, batch: int) -> None:
        """Issues in train.parts: a batch is divided evenly, and nothing looks at whole batches."""
        train, target = self.given.train, self.given.target
        if batch % parts:
            near = min((p for p in range(1, min(batch, 4096) + 1) if batch % p == 0), key=lambda p: abs(p - parts))
            self.issue("train.parts", f"{parts} does not divide train.batch_size = {batch}; {near} does")
        if parts == 1:
            return
        name = target.loss if isinstance(target, Lsc) else target.method
        whole = self.ssl or (name in LOSSES.built_in and not LOSSES.built_in[name].by_image)
        among = f"{name} compares the images of a batch with each other; leave it out, or set 1"
        self.refuse(whole, "train.parts", among)
        for key in ("system", "share", "center_weight") if isinstance(target, CrossEntropy) else ():
            follows = f"target.{key} follows whole batches; leave train.parts out, or set 1"
            self.refuse(getattr(target, key) is not None, "train.parts", follows)
        replays = '"graphs" replays whole batches, and train.parts is above 1; take "on" or "auto"'
        self.refuse(train.compile == "graphs", "train.compile", replays)

    def _check_moments(self, epoch: int) -> None:
        """Issues in what happens at a step before the end, with `epoch` steps an epoch."""
        optimizer, train, target = self.given.optimizer, self.given.train, self.given.target

        def steps(text: str) -> int:
            return Duration.parse(text).steps(epoch, train.batch_size)

        total, late = steps(train.duration), f"the last is not before the end of the training, {train.duration}"
        again = [steps(text) for text in (isinstance(target, Lsc) and target.reassign) or ()]
        self.refuse(again and max(again) >= total, "target.reassign", late)
        long = f"{optimizer.warmup} is not shorter than the training, {train.duration}"
        self.refuse(steps(optimizer.warmup) >= total, "optimizer.warmup", long)
        points = [steps(text) for text in optimizer.milestones or ()]
        self.refuse(points != sorted(set(points)), "optimizer.milestones", "each must come after the one before")
        self.refuse(points and points[-1] >= total, "optimizer.milestones", late)

    def _evaluation(self) -> Eval:
        evaluation, unique = self.given.eval, self.unique
        adaptive, also = self.given.model.etf_layers == "adaptive", evaluation.also or ()
        shift = "unique labels have no validation images to change"
        self.refuse(evaluation.shift is not None and unique, "eval.shift", shift)
        centre = "unique labels have one image a class, which is its own centre; leave it out"
        self.refuse(evaluation.ncc and unique, "eval.ncc", centre)
        self._check_other_data(also)
        learnt = "ssl has no classes whose centres it could learn; leave it out"
        self.refuse(evaluation.ncc and self.ssl, "eval.ncc", learnt)
        follows = 'adaptive layers go by it; leave it out, or take model.etf_layers = "none"'
        self.refuse(adaptive and evaluation.ncc is False, "eval.ncc", follows)
        ece = "ece is the error of probabilities, and ssl gives none; leave it out"
        self.refuse(self.ssl and "ece" in also, "eval.also", ece)
        changes: dict[str, Any] = {"ncc": True if adaptive else evaluation.ncc or None, "also": evaluation.also or None}
        images, wanted = self.counts.images, evaluation.images
        if images is not None:
            if wanted is not None and wanted > images:
                self.warn("eval.images", f"{grouped(wanted)} is more than the {grouped(images)} training images")
            changes["images"] = min(EVAL_IMAGES if wanted is None else wanted, images)
        return evaluation.model_copy(update=changes)

    def _check_other_data(self, also: tuple[str, ...]) -> None:
        """Issues in the other data sets that [eval] names, and in what is measured at the end."""
        data, ood, other = self.given.data, self.given.eval.ood, self.given.eval.dataset
        own = facts_of(data.dataset)
        none = "unique labels have no validation images"
        self.refuse(also and self.unique, "eval.also", f"{none}; take lsc-engine evaluate RUN --on DATASET")
        self.refuse(len(set(also)) < len(also), "eval.also", "names a metric twice")
        needed = "is required for ood: a data set of other classes" if ood is None else 'needs "ood" in eval.also'
        self.refuse(("ood" in also) != (ood is not None), "eval.ood", needed)
        if ood is not None:
            theirs = facts_of(ood)
            if ood in (data.dataset, other):
                self.issue("eval.ood", f"{ood} has the classes of the run; take a data set of other classes")
            elif theirs.size is None:
                self.issue("eval.ood", f"{ood} has no size of its own; take lsc-engine evaluate RUN --on {ood}")
            elif theirs.channels != own.channels:
                fitting = [name for name, each in built_in_data_sets().items() if each.facts.channels == own.channels]
                allowed = ", ".join(name for name in fitting if name != data.dataset)
                differ = f"{ood} has {theirs.channels} channel(s), {data.dataset} {own.channels}"
                self.issue("eval.ood", f"{differ}. Allowed: {allowed}")
        if other is None:
            return
        theirs, key = facts_of(other), "eval.dataset"
        if self.unique:
            self.issue(key, f"{none}: no other image is of such a class")
        elif data_set(other).other_classes:
            self.issue(key, f"{other} cannot be validated on; take one of the named data sets")
        elif theirs.channels != own.channels:
            self.issue(key, f"{other} has {theirs.channels} channel(s), {data.dataset} {own.channels}")
        elif own.classes not in (None, theirs.classes):
            self.issue(key, f"{other} has {theirs.classes} classes, {data.dataset} {own.classes}")


def backbone_of(model: Model) -> Any:
    """The `models.backbone.Backbone` of built-in models, with the default settings if model.args do not fit."""
    backbone = MODELS.built_in.get(model.name)
    if backbone is None:
        return _UNKNOWN
    try:
        return backbone(**model.args)
    except ValidationError:
        return backbone()


def fixed_layers(layers: int | str | None, count: int) -> range:
    """Which of `count` layers in a row, numbered from 0, are fixed from the start on."""
    if isinstance(layers, int):
        return range(count - layers, count)
    if layers is not None and layers.startswith("first:"):
        return range(int(layers.removeprefix("first:")))
    return range(0)
