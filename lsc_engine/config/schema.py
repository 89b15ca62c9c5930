"""What a preset may hold, one strict pydantic model per table, and the objects that it becomes.

Strict means: unknown keys, other types (no text for a number), numbers that are not finite or out of range are
refused. [target] and [optimizer] are unions: which settings there are depends on the method and on the optimizer.
The docstring of a field is its help; `Meta` holds what else the form, the overlay and the sentences need. A field whose
default depends on other settings is None here and filled in by defaults.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

import tomli_w
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from lsc_engine.common.errors import did_you_mean
from lsc_engine.common.formatting import quoted
from lsc_engine.common.ids import run_id
from lsc_engine.common.settings import MIRRORED, Table, flatten
from lsc_engine.config import values
from lsc_engine.config.values import AnyLength, DatasetName, Length, LengthOrNone, Lengths, LossName, Meta
from lsc_engine.data.dataset import image_file_data_sets
from lsc_engine.registry import LOSSES
from lsc_engine.vectors.choice import INIT_ORDER

METRICS = ("train/loss", "train/accuracy", "val/loss", "val/accuracy")
KINDS = ("train", "vectors", "data", "bench")
SEED_MAX = 2**63 - 1
# Settings that other settings need: key and the values at which one acts.
_CLASSES = ("data.labels", ("class",))
_ADAPTIVE = ("model.etf_layers", ("adaptive",))
_COSINES = ("target.loss", ("normalized", "cosface", "arcface"))
_STEPS = ("optimizer.schedule", ("steps",))


class Section(BaseModel):
    """Base of all sections: strict, closed, frozen, finite."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def _none_if(default: object) -> AfterValidator:
    """Reads the default as None, so that a run that sets it is no other run than one that does not."""
    return AfterValidator(lambda value: None if value == default and type(value) is type(default) else value)


def _optimizer_name(value: Any) -> str:
    """The tag of [optimizer], a table or a model; it may be left out."""
    found = value.get("name", "adamw") if isinstance(value, dict) else value.name
    return found if isinstance(found, str) else quoted(found)


def _known_metrics(levels: dict[str, float]) -> dict[str, float]:
    for metric in levels:
        if metric not in METRICS:
            raise ValueError(f"{quoted(metric)} is not a metric with levels; {did_you_mean(metric, METRICS)}")
    return levels


def _of_losses(shown: str, field: str) -> Meta:
    """Of a setting that acts in the losses which have a field of its name."""
    losses = tuple(name for name, loss in LOSSES.built_in.items() if field in loss.model_fields)
    return Meta(shown, needs=("target.loss", losses), reset_by="target.loss")


class Data(Section):
    """[data]: the images and what their classes are."""

    dataset: DatasetName
    """Which images to train on."""
    labels: Literal["class", "unique"] = "class"
    """The data set's own classes, or every training image its own class."""
    classes: Annotated[int | None, Field(ge=2, le=2**62), Meta("all")] = None
    """Number of classes: the first that many."""
    first_class: Annotated[int | None, Field(ge=0, le=2**62), Meta("0")] = None
    """Train only on classes from this one on; evaluation sees all of data.classes."""
    image_size: Annotated[int | None, Field(ge=4, le=1024), Meta("the data set's own")] = None
    """Height and width of the images in pixels."""
    augment: Literal["none", "light1"] = "none"
    """Augmentation: none, or light1 (RandAugment with 2 operations at magnitude 0, and a flip)."""
    augment_per: Annotated[Literal["image", "batch"], Meta(needs=("data.augment", ("light1",)))] = "image"
    """Whether the random augmentation is drawn for each image or once per batch."""
    label_noise: Annotated[float | None, Field(ge=0, lt=1), Meta("0", needs=_CLASSES)] = None
    """Share of the training images whose label is another class, drawn by the seed; validation keeps its labels."""
    imbalance: Annotated[float | None, Field(gt=0, le=1), Meta("1", needs=_CLASSES)] = None
    """Long tail: the share of its training images that the last class keeps, exponentially fewer by class."""
    path: Annotated[str | None, Field(min_length=1), Meta("looked for in the data folder", reset_by="data.dataset")] = (
        None
    )
    """The folder that holds the data set; required for folder."""
    skip_bad: Annotated[bool | None, Meta("false", needs=("data.dataset", image_file_data_sets()))] = None
    """Leave image files that cannot be read out, and count them, instead of refusing to train."""


class Model(Section):
    """[model]: the backbone, image -> embedding."""

    name: Annotated[
        str, AfterValidator(values.model_name), Meta(kind="open", choices=(*values.MODEL_NAMES, "timm:NAME"))
    ]
    """The backbone."""
    dim: Annotated[
        int | str | None,
        BeforeValidator(values.dim),
        Meta('"min" for lsc, the model\'s own width for ce', kind="open", choices=("min",)),
    ] = None
    """Latent dimension n, or "min" for the smallest n that holds the classes."""
    width: Annotated[float, Field(gt=0, le=16)] = 1.0
    """Factor on the widths of encoder and mlp."""
    args: Annotated[dict[str, Any], BeforeValidator(values.args), Meta(kind="table", reset_by="model.name")] = {}
    """Further arguments of the backbone, passed to timm as they are."""
    standardize_output: Annotated[bool | None, Meta("false", kind="flag")] = None
    """Rescale the last layer before the first step so that each coordinate of the embeddings of the training images has
    mean 0 and deviation 1; nearest:init always does."""
    etf_layers: Annotated[
        int | str | None,
        BeforeValidator(values.etf_layers),
        Meta("none", "open", ("1", "2", "3", "first:1", *values.ETF_LAYERS), off=True, reset_by="model.name"),
    ] = None
    """Layers fixed to simplex ETFs: the last k with the output, first:k, a transformer's feed-forward, or adaptive."""
    etf_frame: Annotated[Literal["canonical", "random"] | None, Meta("canonical")] = None
    """The frame of the fixed layers: the first coordinates, or random orthogonal ones."""
    etf_threshold: Annotated[
        float | None, Field(gt=0, lt=1), Meta("0.9 for adaptive", needs=_ADAPTIVE, reset_by="model.etf_layers")
    ] = None
    """Nearest-class-centre accuracy beyond which a layer counts as collapsed (adaptive)."""
    etf_patience: Annotated[
        int | None, Field(ge=1, le=100_000), Meta("6 for adaptive", needs=_ADAPTIVE, reset_by="model.etf_layers")
    ] = None
    """Evaluations in a row beyond the threshold until a layer and all after it are fixed (adaptive)."""


class Lsc(Section):
    """[target] of method lsc: predefined vectors as class centres, and no class layer."""

    method: Literal["lsc"]
    """lsc: predefined vectors without a class layer; ce: cross-entropy with a class layer; ssl: self-supervised, two
    augmented views of each image, no labels."""
    system: Annotated[str, AfterValidator(values.system), Meta("required for lsc, none for ce", kind="system")]
    """The vector system whose vectors are the class centres (lsc); with ce none, or running-means."""
    order: Annotated[str, AfterValidator(values.order), Meta("shuffled", "open", values.ORDERS)] = "shuffled"
    """Which class gets which vector of the system; nearest:init: those nearest to the class means of the untrained
    network, its last layer standardised; nearest:RUN or nearest:@variant: to the class means of that run."""
    reassign: Annotated[
        Lengths | None, Meta("none", "durations", needs=("target.order", (INIT_ORDER,)), reset_by="target.order")
    ] = None
    """Moments at which each class gets the vector nearest to its present class mean (nearest:init)."""
    loss: Annotated[LossName, Meta("cosine for lsc, softmax for ce", "choice", values.LOSS_NAMES)] = "cosine"
    """What is minimised. lsc: 1 - cosine to the centre, its square, the distance, both, the inner product (dot), a
    softmax over the whole system or over the batch. ce: softmax, or cosines without or with a margin."""
    radius: Annotated[
        float | str | None,
        BeforeValidator(values.radius),
        replace(_of_losses("1, for planar 5", "radius"), kind="open", choices=("native",)),
    ] = None
    """Length of the centres for distance and dot; "native" as the family defines them."""
    cluster_radius: Annotated[float | None, Field(ge=0, lt=1e6), _of_losses("0, for planar 4/N", "cluster_radius")] = (
        None
    )
    """Distance from the centre within which the distance loss is 0."""
    weights: Annotated[
        tuple[float, float] | None,
        BeforeValidator(values.listed),
        replace(_of_losses("[1, 1]", "weights"), kind="list"),
    ] = None
    """Weights of cosine and distance in cosine+distance, both means over the batch; [1, batch size] sums the distance,
    as arXiv:2510.04090 (6) prints it."""
    scale: Annotated[float | None, Field(gt=0, le=1000), _of_losses("16, with a margin 64", "scale")] = None
    """Factor s on the cosines in a softmax, the inverse of a temperature."""
    batch_axis: Annotated[Literal["rows", "columns"] | None, _of_losses("rows", "batch_axis")] = None
    """batch-softmax: each image among the vectors of the batch (rows), or each vector among its images (columns)."""
    within: Annotated[Literal["kld", "gaussian"] | None, Meta("none", off=True)] = None
    """Loss on the distribution within classes, added to that of lsc: Kullback-Leibler divergence from a Gaussian, or
    its mean and standard deviation matched."""
    within_weight: Annotated[
        float | None,
        Field(gt=0, le=1e6),
        Meta("0.1", needs=("target.within", ("kld", "gaussian")), reset_by="target.within"),
    ] = None
    """Weight of the loss within classes."""


class CrossEntropy(Section):
    """[target] of method ce: a class layer, taught by the labels and, where one is named, by a teacher."""

    method: Literal["ce"]
    system: Annotated[Literal["running-means"] | None, Meta("none", off=True)] = None
    """running-means: the class layer is not learnt, its rows are running means of the directions of the classes."""
    momentum: Annotated[
        float | None,
        Field(ge=0, lt=1),
        Meta("0.99", needs=("target.system", ("running-means",)), reset_by="target.system"),
    ] = None
    """Share of a running class mean that a step keeps (running-means)."""
    loss: Annotated[Literal["softmax", "normalized", "cosface", "arcface"] | None, Meta("softmax")] = None
    """Of the logits, or of cosines, without or with a margin."""
    scale: Annotated[
        float | None, Field(gt=0, le=1000), Meta("16, with a margin 64", needs=_COSINES, reset_by="target.loss")
    ] = None
    """Factor s on the cosines in a softmax, the inverse of a temperature."""
    margin: Annotated[
        float | None,
        Field(gt=0, le=1.5),
        Meta(
            "0.35 for cosface, 0.5 for arcface", needs=("target.loss", ("cosface", "arcface")), reset_by="target.loss"
        ),
    ] = None
    """What the own class must be ahead by: of the cosine (cosface), of the angle in radians (arcface)."""
    share: Annotated[float | None, Field(gt=0, lt=1), Meta("all")] = None
    """Share of the classes that a step sees: those of its batch and random others (ce, Partial FC)."""
    center_weight: Annotated[float | None, Field(gt=0, le=1e6), Meta("none")] = None
    """Weight of the centre loss, the squared distance to the class's centre (ce)."""
    bottleneck: Annotated[
        int | str | None, BeforeValidator(values.bottleneck), Meta("none", "open", ("min:V21",), off=True)
    ] = None
    """Width of a linear layer before the class layer (ce): none, n, or "min:SYSTEM"."""
    teacher: Annotated[str | None, Field(min_length=1), Meta("none")] = None
    """A run, or @variant, trained with ce: its logits teach this one (ce)."""
    teacher_weight: Annotated[float | None, Field(gt=0, le=1), Meta("0.5 with a teacher")] = None
    """Share of the teacher's loss; the rest is that of the labels."""
    temperature: Annotated[float | None, Field(gt=0, le=1000), Meta("4 with a teacher, 0.5 for ssl")] = None
    """Temperature of the teacher's and the student's logits (ce), or of the cosines of views (ssl)."""


class Ssl(Section):
    """[target] of method ssl: two augmented views of each image, separated from those of others by their cosines."""

    method: Literal["ssl"]
    # That of SimCLR on small images; see heads/.
    temperature: Annotated[float, Field(gt=0, le=1000)] = 0.5


Target = Annotated[Lsc | CrossEntropy | Ssl, Field(discriminator="method")]


class AdamW(Section):
    """[optimizer]: AdamW, and the learning rate over time."""

    name: Literal["adamw"] = "adamw"
    """The optimizer."""
    lr: Annotated[float, Field(gt=0, le=1000)] = 1e-4
    """Learning rate."""
    weight_decay: Annotated[float, Field(ge=0, le=100)] = 1e-5
    """Weight decay."""
    schedule: Literal["constant", "cosine", "steps"] = "constant"
    """The learning rate after the warm-up: constant, cosine to 0, or times gamma at the milestones."""
    warmup: LengthOrNone = "0 steps"
    """Linear rise from 0 at the start."""
    milestones: Annotated[
        Lengths | None, Meta("required for steps", "durations", needs=_STEPS, reset_by="optimizer.schedule")
    ] = None
    """When the learning rate is multiplied by gamma (schedule steps)."""
    gamma: Annotated[float | None, Field(gt=0, le=1), Meta("0.1", needs=_STEPS, reset_by="optimizer.schedule")] = None
    """Factor at each milestone (steps)."""


class Sgd(AdamW):
    """[optimizer]: stochastic gradient descent with momentum."""

    name: Literal["sgd"] = "sgd"  # type: ignore[assignment]
    momentum: Annotated[float, Field(ge=0, lt=1), Meta("0.9 for sgd")] = 0.9
    """Momentum of sgd."""


Optimizer = Annotated[Annotated[AdamW, Tag("adamw")] | Annotated[Sgd, Tag("sgd")], Discriminator(_optimizer_name)]


class Train(Section):
    """[train]: how long, in what batches."""

    duration: Length
    """Length of the training."""
    until: Annotated[Annotated[dict[str, float], AfterValidator(_known_metrics)] | None, Meta("none", kind="table")] = (
        None
    )
    """End at the first evaluation at which these metrics are all reached."""
    batch_size: Annotated[int, Field(ge=1, le=2**20)] = 256
    """Images per step."""
    precision: Literal["auto", "bf16", "float32"] = "auto"
    """auto: bf16 on CUDA, float32 on the CPU."""
    residual: Annotated[
        Annotated[Literal["fp32", "bf16"], _none_if("fp32")] | None, Meta("fp32", "choice", ("fp32", "bf16"))
    ] = None
    """What the blocks of a vision transformer add up in where precision is bf16. bf16: faster, rounded more."""
    parts: Annotated[Annotated[int, Field(ge=1, le=4096), _none_if(1)] | None, Meta("1", kind="integer")] = None
    """Equal parts of a batch, each with batch statistics of its own; as many processes as divide them can share it."""
    deterministic: Annotated[Annotated[bool, _none_if(False)] | None, Meta("false", kind="flag")] = None
    """The same weights bit by bit on any number of processes, by a fixed order of sums and deterministic kernels."""
    compile: Literal["auto", "on", "off", "graphs"] = "auto"
    """Compile the step with torch.compile; auto: long runs on CUDA. graphs: CUDA graphs besides, for small networks."""


AlsoMeasured = Literal["knn", "probe", "recall", "map", "ece", "ood"]


class Eval(Section):
    """[eval]: when and on what accuracy is measured."""

    every: Length = "1 epochs"
    """How often to evaluate; always at the end."""
    images: Annotated[int | None, Field(ge=1, le=2**40), Meta("at most 10 240")] = None
    """Number of fixed training images to measure on."""
    dataset: Annotated[
        DatasetName | None,
        Meta("the data set's own validation images", "choice", values.DATASET_NAMES, needs=_CLASSES),
    ] = None
    """Another data set to validate on, with the same classes."""
    shift: Annotated[Literal["moved", "turned", "noise", "contrast"] | None, Meta("none", off=True, needs=_CLASSES)] = (
        None
    )
    """Validate also on images changed in this way: val/accuracy_shifted."""
    ncc: Annotated[bool | None, Meta("false, for adaptive layers true", kind="flag", needs=_CLASSES)] = None
    """Measure nearest-class-centre accuracy of every layer and neural collapse; one more pass over the images."""
    also: Annotated[
        Annotated[tuple[AlsoMeasured, ...], BeforeValidator(values.listed)] | None,
        Meta("none", "names", get_args(AlsoMeasured), needs=_CLASSES),
    ] = None
    """Measure at the end on frozen embeddings: knn, probe (linear), recall (@1, @10), map (@R), ece (calibration), ood
    (images of other classes)."""
    ood: Annotated[
        DatasetName | None, Meta("none; required for ood", "choice", values.DATASET_NAMES, needs=_CLASSES)
    ] = None
    """The data set whose images are of other classes, for ood."""
    class_means: bool = False
    """Store the mean embedding of each class at the end; set by itself where another variant needs it."""
    embeddings: Literal["auto", "on", "off"] = "auto"
    """Keep embeddings of some evaluation images for Monitor: points for n up to 3, else angles to the centres; auto:
    angles up to 10 000 classes."""


AlsoLogged = Literal["tensorboard", "wandb", "mlflow", "trackio"]


class Log(Section):
    """[log]: the metrics lines."""

    every: Length = "50 steps"
    """How often to write a line; at least once an epoch and at the end."""
    also: Annotated[
        Annotated[tuple[AlsoLogged, ...], BeforeValidator(values.listed), _none_if(())] | None,
        Meta("none", "names", get_args(AlsoLogged)),
    ] = None
    """Write the metrics for other tools too, into the run's folder and by processes of their own."""


class Checkpoint(Section):
    """[checkpoint]: when state is saved, and how much of it is kept."""

    every: AnyLength = "10 minutes"
    """How often to save; always at the end."""
    keep: Annotated[int, Field(ge=1, le=1000)] = 2
    """How many of the newest to keep beside the best."""
    also_at: Lengths = ()
    """Further moments to save at, kept for good."""


class Compare(Section):
    """[compare]: what speed-ups are measured against, and the levels, fixed beforehand."""

    baseline: Annotated[str | None, Meta("the first variant")] = None
    """The variant that the others are compared with."""
    levels: Annotated[
        dict[str, Annotated[tuple[float, ...], BeforeValidator(values.listed)]], Meta(kind="table", choices=METRICS)
    ] = {}
    """Per metric the values whose first reaching is compared."""


class Tune(Section):
    """[tune]: the same small grid for every variant; the best setting then trains over the seeds."""

    grid: Annotated[dict[str, tuple[Any, ...]], Meta(kind="table")] = {}
    """Setting and the values to try."""
    duration: Annotated[Length | None, Meta("as train.duration", kind="duration")] = None
    """Length of a try."""
    seed: Annotated[int, Field(ge=0, le=SEED_MAX)] = 9
    """Seed of the tries."""
    by: Literal["claims", "train/accuracy", "val/accuracy", "train/loss", "val/loss"] = "claims"
    """What decides: a metric at the end, or what the claims judge: the time to the levels where speed is claimed, else
    the final values. Each best setting trains over the seeds."""


# Dotted key of a setting that names another run -> what stands before the reference.
REFERENCES = {"target.system": "embeddings:", "target.order": "nearest:", "target.teacher": "", "start_from": ""}


@dataclass(frozen=True)
class Reference:
    """What the setting `key` takes from another run, `ref`: a run, or "@variant" of the same study."""

    key: str
    ref: str

    @property
    def variant(self) -> str | None:
        """The variant of the same study that is meant, or None for a run."""
        return self.ref[1:] if self.ref.startswith("@") else None

    @property
    def of_means(self) -> bool:
        """Whether it is the class means that are taken over, which the other run stores at its end."""
        return self.key in ("target.system", "target.order")


def references(value_of: Callable[[str], Any]) -> tuple[Reference, ...]:
    """All references of a run or a variant; `value_of` gives the value of a dotted key."""
    found = ((key, before, value_of(key)) for key, before in REFERENCES.items())
    return tuple(
        Reference(key, value.removeprefix(before))
        for key, before, value in found
        if isinstance(value, str) and value.startswith(before) and value not in (before, INIT_ORDER)
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
    start_from: Annotated[str | None, Field(min_length=1)] = None
    """Begin with the weights of another run, or of "@variant"."""

    @property
    def system(self) -> str | None:
        """The vector system of the class centres, None where the method has none."""
        return self.target.system if isinstance(self.target, Lsc) else None

    def value(self, key: str) -> Any:
        """The value at a dotted key; None where the section has no such setting."""
        section, _, name = key.rpartition(".")
        return getattr(getattr(self, section) if section else self, name, None)

    def with_values(self, values: Mapping[str, Any]) -> Self:
        """The same settings with other values, by dotted key, which are not validated."""
        found = self
        for key, value in values.items():
            section, _, name = key.rpartition(".")
            if section:
                value = getattr(found, section).model_copy(update={name: value})
            found = found.model_copy(update={section or name: value})
        return found

    @property
    def references(self) -> tuple[Reference, ...]:
        """What it takes from other runs."""
        return references(self.value)

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
    provenance: dict[str, str] = {}

    @property
    def run_id(self) -> str:
        """`study/variant/seed-0`."""
        return run_id(self.study, self.variant, self.seed)

    def settings(self) -> Table:
        """Dotted key -> value of all that decides what the run computes, its seed included; names, words and
        levels are left out. Two runs with equal settings compute the same."""
        words = RunConfig.model_fields.keys() - Settings.model_fields.keys() - {"seed"}
        flat = flatten(self.model_dump(mode="python", exclude_none=True, exclude=words))
        return {key: value for key, value in flat.items() if key != MIRRORED}

    def to_toml(self) -> str:
        """The run's preset.toml: complete, resolved, and itself a preset without variants."""
        return tomli_w.dumps(self.to_table())

    def to_table(self) -> Table:
        """The content of `to_toml`."""
        whole = self.model_dump(mode="json", exclude_none=True)
        whole = {key: value for key, value in whole.items() if value or key not in ("source", "claim", "provenance")}
        if not whole["compare"].get("levels"):
            whole["compare"].pop("levels", None)
        identity = {key: whole.pop(key) for key in ("study", "variant", "label")}
        words: Table = {
            key: whole.pop(key) for key in ("title", "source", "claim", "seed", "start_from") if key in whole
        }
        return {**words, "run": identity, **whole}


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
        fields = {name: info for model in reversed(models) for name, info in model.model_fields.items()}
        names = dict.fromkeys(name for model in models for name in model.model_fields)
        yield from ((f"{section}.{name}", fields[name]) for name in names)


def literals(annotation: Any) -> list[Any]:
    """The values of the Literal inside an annotation, through Optional and Annotated; empty without one."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    if get_origin(annotation) in (Union, UnionType):
        return [value for part in get_args(annotation) for value in literals(part)]
    return literals(get_args(annotation)[0]) if get_origin(annotation) is Annotated else []


def meta_of(info: FieldInfo) -> Meta:
    """The last `Meta` of a field; those of its type come first."""
    return next((found for found in reversed(info.metadata) if isinstance(found, Meta)), Meta())


def choices_of(info: FieldInfo) -> tuple[str, ...]:
    """The values a field names: all it allows for a choice, a guide for an open one."""
    named, meta = literals(info.annotation), meta_of(info)
    return (*(("none",) if meta.off else ()), *(map(str, named) if named else meta.choices))


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
    needs = meta_of(infos[0]).needs
    return needs is None or (value(needs[0]) in needs[1] and acts(needs[0], value_of))


@dataclass(frozen=True)
class Setting:
    """One setting. kind: choice | open (choices are a guide) | system | integer | number | text | flag | duration |
    durations | list | table. `default` is None where it depends on other settings; `shown` says it in words.
    `least` and `most` are inclusive bounds where there are any (`least` of a positive number is not reached);
    `optional`: it may be left out, and its default is not one of its values."""

    key: str
    kind: str
    choices: tuple[str, ...]
    default: Any
    shown: str
    help: str
    least: float | None = None
    most: float | None = None
    optional: bool = False


@cache
def fields() -> tuple[Setting, ...]:
    """All settings of a run in the order of the form: the sections, then `start_from` and `seed`."""
    found = [_setting(key, info) for key, info in settings_fields()]
    help = Settings.model_fields["start_from"].description or ""
    found.append(Setting("start_from", "text", (), None, "none", help, optional=True))
    words = "Seed of the weights, the order and the augmentation."
    return (*found, Setting("seed", "integer", (), 0, "0", words, 0, SEED_MAX))


def choices_for(key: str, tag: Any = None) -> tuple[str, ...]:
    """The values that a setting names: with the `tag` of its table, as method ce, those of that table alone."""
    section, name = key.split(".")
    models = [model for model in SECTIONS[section] if name in model.model_fields]
    own = [model for model in models if tag in literals(model.model_fields[TAGS.get(section, name)].annotation)]
    return tuple(dict.fromkeys(c for model in own or models for c in choices_of(model.model_fields[name])))


@cache
def setting_keys() -> tuple[str, ...]:
    """The dotted keys of `fields()`."""
    return tuple(setting.key for setting in fields())


def _setting(key: str, info: FieldInfo) -> Setting:
    meta = meta_of(info)
    bounds: dict[str, float] = {}
    for limit in info.metadata:
        bounds |= {name: getattr(limit, name) for name in ("ge", "gt", "le", "lt") if hasattr(limit, name)}
    required = info.default is PydanticUndefined
    default = None if required else info.default
    words = "none" if default in ((), {}) else str(default).lower() if isinstance(default, bool) else str(default)
    plain: Any = next((part for part in get_args(info.annotation) if part is not type(None)), info.annotation)
    kind = {bool: "flag", int: "integer", float: "number", str: "text"}.get(plain, "list")
    return Setting(
        key=key,
        kind=meta.kind or ("choice" if literals(info.annotation) else kind),
        choices=choices_for(key),
        default=default,
        shown=meta.shown or ("required" if required else words),
        help=" ".join((info.description or "").split()),
        least=bounds.get("ge", bounds.get("gt")),
        most=bounds.get("le", bounds.get("lt")),
        optional=bool(meta.shown),
    )
