"""What a preset may say, one strict pydantic model per table, and the objects that it becomes.

Strict means: unknown keys, other types (no text for a number), numbers that are not finite or out of range are
refused. [target] and [optimizer] are unions: which settings there are depends on the method and on the optimizer.
`needs` of each field defines which of the others act. A field whose default depends on other settings is None here
and filled in by defaults.py; `shown` then says the default in words. The New run form, --set and the list of settings
are made from this file (catalogue.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import tomli_w
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from lsc_engine.common.errors import did_you_mean
from lsc_engine.common.formatting import quoted
from lsc_engine.common.ids import run_id
from lsc_engine.common.settings import Table, flatten
from lsc_engine.config import values
from lsc_engine.config.values import (
    DATASET_NAMES,
    LOSS_NAMES,
    MODEL_NAMES,
    ORDERS,
    AnyLength,
    DatasetName,
    Length,
    LengthOrNone,
    Lengths,
    LossName,
)
from lsc_engine.data.dataset import image_file_data_sets
from lsc_engine.registry import LOSSES
from lsc_engine.vectors.choice import INIT_ORDER

METRICS = ("train/loss", "train/accuracy", "val/loss", "val/accuracy")
KINDS = ("train", "vectors", "data", "bench")
SEED_MAX = 2**63 - 1
METHODS = (
    "lsc: predefined vectors without a class layer; ce: cross-entropy with a class layer; "
    "ssl: self-supervised, two augmented views of each image, no labels."
)


class Section(BaseModel):
    """Base of all sections: strict, closed, frozen, finite."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def _setting(
    default: Any,
    help: str,
    *,
    kind: str = "",
    choices: tuple[str, ...] = (),
    shown: str = "",
    off: bool = False,
    needs: tuple[str, tuple[str, ...]] | None = None,
    reset_by: str = "",
    **limits: Any,
) -> Any:
    """A field with what the form, the overlay and the sentences need to know of it.

    kind, choices (a guide where the kind is open) and the default in words (`shown`). `off`: "none" switches it off.
    `needs`: another setting and the values of it at which this one acts. `reset_by`: a setting whose change leaves this
    one behind when a variant is laid over its preset.
    """
    extra: Any = {"kind": kind, "choices": [*(("none",) if off else ()), *choices], "shown": shown}
    extra |= {"off": off, "needs": needs, "reset_by": reset_by}
    return Field(default, description=help, json_schema_extra=extra, **limits)


def _none_if(default: object) -> Callable[[Any], Any]:
    """Reads the default as None, so that a run that sets it is no other run than one that does not."""
    return lambda value: None if value == default and type(value) is type(default) else value


def _tag_of(key: str, default: str | None = None) -> Callable[[Any], str | None]:
    """Reads the tag of a union from a table or from a model."""

    def tag(value: Any) -> str | None:
        found = value.get(key, default) if isinstance(value, dict) else getattr(value, key, None)
        return found if found is None or isinstance(found, str) else quoted(found)

    return tag


def _known_metrics(levels: dict[str, float]) -> dict[str, float]:
    for metric in levels:
        if metric not in METRICS:
            raise ValueError(f"{quoted(metric)} is not a metric with levels; {did_you_mean(metric, METRICS)}")
    return levels


class Data(Section):
    """[data]: the images and what their classes are."""

    dataset: DatasetName = _setting(..., "Which images to train on.", kind="choice", choices=DATASET_NAMES)
    labels: Literal["class", "unique"] = _setting(
        "class", "The data set's own classes, or every training image its own class."
    )
    classes: int | None = _setting(None, "Number of classes: the first that many.", shown="all", ge=2, le=2**62)
    first_class: int | None = _setting(
        None, "Train only on classes from this one on; evaluation sees all of data.classes.", shown="0", ge=0, le=2**62
    )
    image_size: int | None = _setting(
        None, "Height and width of the images in pixels.", shown="the data set's own", ge=4, le=1024
    )
    augment: Literal["none", "light1"] = _setting(
        "none", "Augmentation: none, or light1 (RandAugment with 2 operations at magnitude 0, and a flip)."
    )
    augment_per: Literal["image", "batch"] = _setting(
        "image",
        "Whether the random augmentation is drawn for each image or once per batch.",
        needs=("data.augment", ("light1",)),
    )
    label_noise: float | None = _setting(
        None,
        "Share of the training images whose label is another class, drawn by the seed; validation keeps its labels.",
        shown="0",
        needs=("data.labels", ("class",)),
        ge=0,
        lt=1,
    )
    imbalance: float | None = _setting(
        None,
        "Long tail: the share of its training images that the last class keeps, exponentially fewer by class.",
        shown="1",
        needs=("data.labels", ("class",)),
        gt=0,
        le=1,
    )
    path: str | None = _setting(
        None,
        "The folder that holds the data set; required for folder.",
        shown="looked for in the data folder",
        reset_by="data.dataset",
        min_length=1,
    )
    skip_bad: bool | None = _setting(
        None,
        "Leave image files that cannot be read out, and count them, instead of refusing to train.",
        shown="false",
        needs=("data.dataset", image_file_data_sets()),
    )


_ADAPTIVE = ("model.etf_layers", ("adaptive",))


class Model(Section):
    """[model]: the backbone, image -> embedding."""

    name: Annotated[str, AfterValidator(values.model_name)] = _setting(
        ..., "The backbone.", kind="open", choices=(*MODEL_NAMES, "timm:NAME")
    )
    dim: Annotated[int | str | None, BeforeValidator(values.dim)] = _setting(
        None,
        'Latent dimension n, or "min" for the smallest n that holds the classes.',
        kind="open",
        choices=("min",),
        shown='"min" for lsc, the model\'s own width for ce',
    )
    width: float = _setting(1.0, "Factor on the widths of encoder and mlp.", gt=0, le=16)
    args: Annotated[dict[str, Any], BeforeValidator(values.args)] = _setting(
        {}, "Further arguments of the backbone, passed to timm as they are.", kind="table", reset_by="model.name"
    )
    standardize_output: bool | None = _setting(
        None,
        "Rescale the last layer before the first step so that each coordinate of the embeddings of the training images "
        "has mean 0 and deviation 1; nearest:init always does.",
        kind="flag",
        shown="false",
    )
    etf_layers: Annotated[int | str | None, BeforeValidator(values.etf_layers)] = _setting(
        None,
        "Layers fixed to simplex ETFs: the last k with the output, first:k, a transformer's feed-forward, or adaptive.",
        kind="open",
        choices=("1", "2", "3", "first:1", "feed-forward", "adaptive"),
        shown="none",
        off=True,
        reset_by="model.name",
    )
    etf_frame: Literal["canonical", "random"] | None = _setting(
        None, "The frame of the fixed layers: the first coordinates, or random orthogonal ones.", shown="canonical"
    )
    etf_threshold: float | None = _setting(
        None,
        "Nearest-class-centre accuracy beyond which a layer counts as collapsed (adaptive).",
        shown="0.9 for adaptive",
        needs=_ADAPTIVE,
        reset_by="model.etf_layers",
        gt=0,
        lt=1,
    )
    etf_patience: int | None = _setting(
        None,
        "Evaluations in a row beyond the threshold until a layer and all after it are fixed (adaptive).",
        shown="6 for adaptive",
        needs=_ADAPTIVE,
        reset_by="model.etf_layers",
        ge=1,
        le=100_000,
    )


_TEMPERATURE = "Temperature of the teacher's and the student's logits (ce), or of the cosines of views (ssl)."


def _losses_with(field: str) -> tuple[str, tuple[str, ...]]:
    return "target.loss", tuple(name for name, loss in LOSSES.built_in.items() if field in loss.model_fields)


def _scale(needs: tuple[str, tuple[str, ...]]) -> Any:
    words = "Factor s on the cosines in a softmax, the inverse of a temperature."
    shown = "16, with a margin 64"
    return _setting(None, words, shown=shown, needs=needs, reset_by="target.loss", gt=0, le=1000)


class Lsc(Section):
    """[target] of method lsc: predefined vectors as class centres, and no class layer."""

    method: Literal["lsc"] = _setting(..., METHODS)
    system: Annotated[str, AfterValidator(values.system)] = _setting(
        ...,
        "The vector system whose vectors are the class centres (lsc); with ce none, or running-means.",
        kind="system",
        shown="required for lsc, none for ce",
    )
    order: Annotated[str, AfterValidator(values.order)] = _setting(
        "shuffled",
        "Which class gets which vector of the system; nearest:init: those nearest to the class means of the untrained "
        "network, its last layer standardised; nearest:RUN or nearest:@variant: to the class means of that run.",
        kind="open",
        choices=ORDERS,
        shown="shuffled",
    )
    reassign: Lengths | None = _setting(
        None,
        "Moments at which each class gets the vector nearest to its present class mean (nearest:init).",
        kind="durations",
        shown="none",
        needs=("target.order", (INIT_ORDER,)),
        reset_by="target.order",
    )
    loss: LossName = _setting(
        "cosine",
        "What is minimised. lsc: 1 - cosine to the centre, its square, the distance, both, the inner product (dot), a "
        "softmax over the whole system or over the batch. ce: softmax, or cosines without or with a margin.",
        kind="choice",
        choices=LOSS_NAMES,
        shown="cosine for lsc, softmax for ce",
    )
    radius: Annotated[float | str | None, BeforeValidator(values.radius)] = _setting(
        None,
        'Length of the centres for distance and dot; "native" as the family defines them.',
        kind="open",
        choices=("native",),
        shown="1, for planar 5",
        needs=_losses_with("radius"),
        reset_by="target.loss",
    )
    cluster_radius: float | None = _setting(
        None,
        "Distance from the centre within which the distance loss is 0.",
        shown="0, for planar 4/N",
        needs=_losses_with("cluster_radius"),
        reset_by="target.loss",
        ge=0,
        lt=1e6,
    )
    weights: Annotated[tuple[float, float] | None, BeforeValidator(values.listed)] = _setting(
        None,
        "Weights of cosine and distance in cosine+distance, both means over the batch; [1, batch size] sums the "
        "distance, as arXiv:2510.04090 (6) prints it.",
        kind="list",
        shown="[1, 1]",
        needs=_losses_with("weights"),
        reset_by="target.loss",
    )
    scale: float | None = _scale(_losses_with("scale"))
    batch_axis: Literal["rows", "columns"] | None = _setting(
        None,
        "batch-softmax: each image among the vectors of the batch (rows), or each vector among its images (columns).",
        shown="rows",
        needs=_losses_with("batch_axis"),
        reset_by="target.loss",
    )
    within: Literal["kld", "gaussian"] | None = _setting(
        None,
        "Loss on the distribution within classes, added to that of lsc: Kullback-Leibler divergence from a Gaussian, "
        "or its mean and standard deviation matched.",
        shown="none",
        off=True,
    )
    within_weight: float | None = _setting(
        None,
        "Weight of the loss within classes.",
        shown="0.1",
        needs=("target.within", ("kld", "gaussian")),
        reset_by="target.within",
        gt=0,
        le=1e6,
    )


_COSINES = ("target.loss", ("normalized", "cosface", "arcface"))


class CrossEntropy(Section):
    """[target] of method ce: a class layer, taught by the labels and, where one is named, by a teacher."""

    method: Literal["ce"] = _setting(..., METHODS)
    system: Literal["running-means"] | None = _setting(
        None,
        "running-means: the class layer is not learnt, its rows are running means of the directions of the classes.",
        shown="none",
        off=True,
    )
    momentum: float | None = _setting(
        None,
        "Share of a running class mean that a step keeps (running-means).",
        shown="0.99",
        needs=("target.system", ("running-means",)),
        reset_by="target.system",
        ge=0,
        lt=1,
    )
    loss: Literal["softmax", "normalized", "cosface", "arcface"] | None = _setting(
        None, "Of the logits, or of cosines, without or with a margin.", shown="softmax"
    )
    scale: float | None = _scale(_COSINES)
    margin: float | None = _setting(
        None,
        "What the own class must be ahead by: of the cosine (cosface), of the angle in radians (arcface).",
        shown="0.35 for cosface, 0.5 for arcface",
        needs=("target.loss", ("cosface", "arcface")),
        reset_by="target.loss",
        gt=0,
        le=1.5,
    )
    share: float | None = _setting(
        None,
        "Share of the classes that a step sees: those of its batch and random others (ce, Partial FC).",
        shown="all",
        gt=0,
        lt=1,
    )
    center_weight: float | None = _setting(
        None, "Weight of the centre loss, the squared distance to the class's centre (ce).", shown="none", gt=0, le=1e6
    )
    bottleneck: Annotated[int | str | None, BeforeValidator(values.bottleneck)] = _setting(
        None,
        'Width of a linear layer before the class layer (ce): none, n, or "min:SYSTEM".',
        kind="open",
        choices=("min:V21",),
        shown="none",
        off=True,
    )
    teacher: str | None = _setting(
        None, "A run, or @variant, trained with ce: its logits teach this one (ce).", shown="none", min_length=1
    )
    teacher_weight: float | None = _setting(
        None, "Share of the teacher's loss; the rest is that of the labels.", shown="0.5 with a teacher", gt=0, le=1
    )
    temperature: float | None = _setting(None, _TEMPERATURE, shown="4 with a teacher, 0.5 for ssl", gt=0, le=1000)


class Ssl(Section):
    """[target] of method ssl: two augmented views of each image, separated from those of others by their cosines."""

    method: Literal["ssl"] = _setting(..., METHODS)
    # That of SimCLR on small images; see heads/.
    temperature: float = _setting(0.5, _TEMPERATURE, gt=0, le=1000)


Target = Annotated[
    Annotated[Lsc, Tag("lsc")] | Annotated[CrossEntropy, Tag("ce")] | Annotated[Ssl, Tag("ssl")],
    Discriminator(_tag_of("method")),
]


_STEPS: dict[str, Any] = {"needs": ("optimizer.schedule", ("steps",)), "reset_by": "optimizer.schedule"}


class AdamW(Section):
    """[optimizer]: AdamW, and the learning rate over time."""

    name: Literal["adamw"] = _setting("adamw", "The optimizer.")
    lr: float = _setting(1e-4, "Learning rate.", gt=0, le=1000)
    weight_decay: float = _setting(1e-5, "Weight decay.", ge=0, le=100)
    schedule: Literal["constant", "cosine", "steps"] = _setting(
        "constant", "The learning rate after the warm-up: constant, cosine to 0, or times gamma at the milestones."
    )
    warmup: LengthOrNone = _setting("0 steps", "Linear rise from 0 at the start.", kind="duration")
    milestones: Lengths | None = _setting(
        None,
        "When the learning rate is multiplied by gamma (schedule steps).",
        kind="durations",
        shown="required for steps",
        **_STEPS,
    )
    gamma: float | None = _setting(None, "Factor at each milestone (steps).", shown="0.1", gt=0, le=1, **_STEPS)


class Sgd(AdamW):
    """[optimizer]: stochastic gradient descent with momentum."""

    name: Literal["sgd"] = _setting("sgd", "The optimizer.")  # type: ignore[assignment]
    momentum: float = _setting(0.9, "Momentum of sgd.", shown="0.9 for sgd", ge=0, lt=1)


Optimizer = Annotated[
    Annotated[AdamW, Tag("adamw")] | Annotated[Sgd, Tag("sgd")], Discriminator(_tag_of("name", "adamw"))
]


class Train(Section):
    """[train]: how long, in what batches."""

    duration: Length = _setting(..., "Length of the training.", kind="duration")
    until: Annotated[dict[str, float], AfterValidator(_known_metrics)] | None = _setting(
        None, "End at the first evaluation at which these metrics are all reached.", kind="table", shown="none"
    )
    batch_size: int = _setting(256, "Images per step.", ge=1, le=2**20)
    precision: Literal["auto", "bf16", "float32"] = _setting("auto", "auto: bf16 on CUDA, float32 on the CPU.")
    parts: Annotated[int, Field(ge=1, le=4096), AfterValidator(_none_if(1))] | None = _setting(
        None,
        "Equal parts of a batch, each with batch statistics of its own; as many processes as divide them can share it.",
        kind="integer",
        shown="1",
    )
    deterministic: Annotated[bool, AfterValidator(_none_if(False))] | None = _setting(
        None,
        "The same weights bit by bit on any number of processes, by a fixed order of sums and deterministic kernels.",
        kind="flag",
        shown="false",
    )
    compile: Literal["auto", "on", "off", "graphs"] = _setting(
        "auto", "Compile the step with torch.compile; auto: on CUDA. graphs: CUDA graphs besides, for small networks."
    )


_CLASSES = ("data.labels", ("class",))


AlsoMeasured = Literal["knn", "probe", "recall", "map", "ece", "ood"]


class Eval(Section):
    """[eval]: when and on what accuracy is measured."""

    every: Length = _setting("1 epochs", "How often to evaluate; always at the end.", kind="duration")
    images: int | None = _setting(
        None, "Number of fixed training images to measure on.", shown="at most 10 240", ge=1, le=2**40
    )
    dataset: DatasetName | None = _setting(
        None,
        "Another data set to validate on, with the same classes.",
        kind="choice",
        choices=DATASET_NAMES,
        shown="the data set's own validation images",
        needs=_CLASSES,
    )
    shift: Literal["moved", "turned", "noise", "contrast"] | None = _setting(
        None,
        "Validate also on images changed in this way: val/accuracy_shifted.",
        shown="none",
        off=True,
        needs=_CLASSES,
    )
    ncc: bool | None = _setting(
        None,
        "Measure nearest-class-centre accuracy of every layer and neural collapse; one more pass over the images.",
        kind="flag",
        shown="false, for adaptive layers true",
        needs=_CLASSES,
    )
    also: Annotated[tuple[AlsoMeasured, ...], BeforeValidator(values.listed)] | None = _setting(
        None,
        "Measure at the end on frozen embeddings: knn, probe (linear), recall (@1, @10), map (@R), ece (calibration), "
        "ood (images of other classes).",
        kind="names",
        choices=get_args(AlsoMeasured),
        shown="none",
        needs=_CLASSES,
    )
    ood: DatasetName | None = _setting(
        None,
        "The data set whose images are of other classes, for ood.",
        kind="choice",
        choices=DATASET_NAMES,
        shown="none; required for ood",
        needs=_CLASSES,
    )
    class_means: bool = _setting(
        False, "Store the mean embedding of each class at the end; set by itself where another variant needs it."
    )
    embeddings: Literal["auto", "on", "off"] = _setting(
        "auto",
        "Keep embeddings of some evaluation images for Monitor: points for n up to 3, else angles to the centres; "
        "auto: angles up to 10 000 classes.",
    )


class Log(Section):
    """[log]: the metrics lines."""

    every: Length = _setting(
        "50 steps", "How often to write a line; at least once an epoch and at the end.", kind="duration"
    )


class Checkpoint(Section):
    """[checkpoint]: when state is saved, and how much of it is kept."""

    every: AnyLength = _setting("10 minutes", "How often to save; always at the end.", kind="duration")
    keep: int = _setting(2, "How many of the newest to keep beside the best.", ge=1, le=1000)
    also_at: Lengths = _setting((), "Further moments to save at, kept for good.", kind="durations")


class Compare(Section):
    """[compare]: what speed-ups are measured against, and the levels, fixed beforehand."""

    baseline: str | None = _setting(None, "The variant that the others are compared with.", shown="the first variant")
    levels: dict[str, Annotated[tuple[float, ...], BeforeValidator(values.listed)]] = _setting(
        {}, "Per metric the values whose first reaching is compared.", kind="table", choices=METRICS
    )


class Tune(Section):
    """[tune]: the same small grid for every variant; the best setting then trains over the seeds."""

    grid: dict[str, tuple[Any, ...]] = _setting({}, "Setting and the values to try.", kind="table")
    duration: Length | None = _setting(None, "Length of a try.", kind="duration", shown="as train.duration")
    seed: int = _setting(9, "Seed of the tries.", ge=0, le=SEED_MAX)
    by: Literal["claims", "train/accuracy", "val/accuracy", "train/loss", "val/loss"] = _setting(
        "claims",
        "What decides: a metric at the end, or what the claims judge: the time to the levels where speed is claimed, "
        "else the final values. Each best setting trains over the seeds.",
    )


class Settings(Section):
    """Everything that decides a run except its seed."""

    data: Data
    model: Model
    target: Target
    optimizer: Optimizer
    train: Train
    eval: Eval
    log: Log
    checkpoint: Checkpoint
    start_from: str | None = Field(
        default=None, min_length=1, description='Begin with the weights of another run, or of "@variant".'
    )

    @property
    def system(self) -> str | None:
        """The vector system of the class centres, None where the method has none."""
        return self.target.system if isinstance(self.target, Lsc) else None

    def flat(self) -> Table:
        """Dotted key -> value of every setting that has one."""
        return flatten(self.model_dump(mode="python", exclude_none=True))


class RunConfig(Settings):
    """The resolved settings of one run: a preset of one variant and one seed, with the name of what it came from."""

    study: str
    variant: str
    label: str
    seed: int
    title: str
    source: str = ""
    claim: str = ""
    compare: Compare = Compare()
    provenance: dict[str, str] = Field(default_factory=dict)

    @property
    def run_id(self) -> str:
        """`study/variant/seed-0`."""
        return run_id(self.study, self.variant, self.seed)

    def settings(self) -> Table:
        """Dotted key -> value of all that decides what the run computes, its seed included; names, words and
        levels are left out. Two runs with equal settings compute the same."""
        words = RunConfig.model_fields.keys() - Settings.model_fields.keys() - {"seed"}
        return flatten(self.model_dump(mode="python", exclude_none=True, exclude=words))

    def to_toml(self) -> str:
        """The run's preset.toml: complete, resolved, and itself a preset without variants."""
        return tomli_w.dumps(self.to_table())

    def to_table(self) -> Table:
        """The content of `to_toml`."""
        whole = self.model_dump(mode="json", exclude_none=True)
        for key in ("source", "claim", "provenance"):
            if not whole[key]:
                del whole[key]
        if not whole["compare"].get("levels"):
            whole["compare"].pop("levels", None)
        identity = {key: whole.pop(key) for key in ("study", "variant", "label")}
        words: Table = {
            key: whole.pop(key) for key in ("title", "source", "claim", "seed", "start_from") if key in whole
        }
        return {**words, "run": identity, **whole}


def differences(old: RunConfig, new: RunConfig) -> list[tuple[str, Any, Any]]:
    """(key, old value, new value) of every setting in which two runs differ; None where one has none."""
    a, b = old.settings(), new.settings()
    return [(key, a.get(key), b.get(key)) for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)]


# The tables of one run's settings, what a variant may change, each with the models that it may be.
SECTIONS: dict[str, tuple[type[Section], ...]] = {
    "data": (Data,),
    "model": (Model,),
    "target": (Lsc, CrossEntropy, Ssl),
    "optimizer": (AdamW, Sgd),
    "train": (Train,),
    "eval": (Eval,),
    "log": (Log,),
    "checkpoint": (Checkpoint,),
}
# The setting that decides which model of a union its table is.
TAGS = {"target": "method", "optimizer": "name"}


def settings_fields() -> Iterator[tuple[str, FieldInfo]]:
    """Dotted key and field of every setting of a run, each once."""
    for section, models in SECTIONS.items():
        fields: dict[str, FieldInfo] = {}
        for model in models:
            fields |= {name: info for name, info in model.model_fields.items() if name not in fields}
        yield from ((f"{section}.{name}", info) for name, info in fields.items())


def literals(annotation: Any) -> list[Any]:
    """The values of the Literal inside an annotation, through Optional and Annotated; empty without one."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    if get_origin(annotation) in (Union, UnionType):
        return [value for part in get_args(annotation) for value in literals(part)]
    return literals(get_args(annotation)[0]) if get_origin(annotation) is Annotated else []


def extra_of(info: FieldInfo) -> dict[str, Any]:
    """What `_setting` noted of a field."""
    return info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}


def choices_of(info: FieldInfo) -> tuple[str, ...]:
    """The values a field names: all it allows for a choice, a guide for an open one."""
    named, extra = literals(info.annotation), extra_of(info)
    off = ("none",) if named and extra.get("off") else ()
    return (*off, *map(str, named)) or tuple(extra.get("choices", ()))


@cache
def defaults() -> Table:
    """Dotted key -> the default of every setting that has one by itself."""
    found = ((key, info.default) for key, info in settings_fields())
    return {key: value for key, value in found if value is not None and value is not PydanticUndefined}


def acts(key: str, value_of: Callable[[str], Any]) -> bool:
    """Whether a setting decides anything beside the others. `value_of` gives the value of a dotted key, None where it
    is left to its default."""

    def value(other: str) -> Any:
        found = value_of(other)
        return defaults().get(other) if found is None else found

    section, _, name = key.partition(".")
    models = SECTIONS.get(section, ())
    if (tag := TAGS.get(section, name)) != name:
        models = tuple(m for m in models if value(f"{section}.{tag}") in literals(m.model_fields[tag].annotation))
    infos = [model.model_fields[name] for model in models if name in model.model_fields]
    if not infos:
        return section not in TAGS
    needs = extra_of(infos[0]).get("needs")
    return needs is None or (value(needs[0]) in needs[1] and acts(needs[0], value_of))
