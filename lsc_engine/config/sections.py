"""What a preset may say: one strict pydantic model per section, every field with its help sentence.

Strict means: unknown keys, other types (no text for a number), numbers that are not finite or out of range are
refused. A field whose default depends on other settings is None here and filled in by resolve.py; `shown` then says
the default in words. The New run form and the list of settings are made from this file (catalogue.py).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from lsc_engine.common.formatting import quoted
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
from lsc_engine.errors import did_you_mean

METRICS = ("train/loss", "train/accuracy", "val/loss", "val/accuracy")
KINDS = ("train", "vectors", "data", "bench")
SEED_MAX = 2**63 - 1


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
    **limits: Any,
) -> Any:
    """A field with the words the form needs: kind, choices (a guide where the kind is open), the default in words."""
    extra: Any = {"kind": kind, "choices": list(choices), "shown": shown}
    return Field(default, description=help, json_schema_extra=extra, **limits)


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
        None,
        "Train only on classes from this one on; evaluation sees all of data.classes.",
        shown="0",
        ge=0,
        le=2**62,
    )
    image_size: int | None = _setting(
        None, "Height and width of the images in pixels.", shown="the data set's own", ge=4, le=1024
    )
    augment: Literal["none", "light1"] = _setting(
        "none", "Augmentation: none, or light1 (RandAugment with 2 operations at magnitude 0, and a flip)."
    )
    augment_per: Literal["image", "batch"] = _setting(
        "image", "Whether the random augmentation is drawn for each image or once per batch."
    )
    path: str | None = _setting(
        None,
        "The folder that holds the data set; required for folder.",
        shown="looked for in the data folder",
        min_length=1,
    )
    skip_bad: bool | None = _setting(
        None, "Leave image files that cannot be read out, and count them, instead of refusing to train.", shown="false"
    )


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
        {}, "Further arguments of the backbone, passed to timm as they are.", kind="table"
    )
    etf_layers: Annotated[int | str | None, BeforeValidator(values.etf_layers)] = _setting(
        None,
        "Layers fixed to simplex ETFs: the last k with the output, first:k, a transformer's feed-forward, or adaptive.",
        kind="open",
        choices=("none", "1", "2", "3", "first:1", "feed-forward", "adaptive"),
        shown="none",
    )
    etf_frame: Literal["canonical", "random"] | None = _setting(
        None, "The frame of the fixed layers: the first coordinates, or random orthogonal ones.", shown="canonical"
    )
    etf_threshold: float | None = _setting(
        None,
        "Nearest-class-centre accuracy beyond which a layer counts as collapsed (adaptive).",
        shown="0.9 for adaptive",
        gt=0,
        lt=1,
    )
    etf_patience: int | None = _setting(
        None,
        "Evaluations in a row beyond the threshold until a layer and all after it are fixed (adaptive).",
        shown="6 for adaptive",
        ge=1,
        le=100_000,
    )


class Target(Section):
    """[target]: what the embedding is trained towards."""

    method: Literal["lsc", "ce", "ssl"] = _setting(
        ...,
        "lsc: predefined vectors without a class layer; ce: cross-entropy with a class layer; "
        "ssl: self-supervised, two augmented views of each image, no labels.",
    )
    system: Annotated[str, AfterValidator(values.system)] | None = _setting(
        None, "The vector system whose vectors are the class centres (lsc).", kind="system", shown="required for lsc"
    )
    order: Annotated[str, AfterValidator(values.order)] | None = _setting(
        None,
        "Which class gets which vector of the system; nearest:RUN or nearest:@variant: those nearest to the class "
        "means of that run, by an optimal assignment.",
        kind="open",
        choices=ORDERS,
        shown="shuffled",
    )
    loss: LossName | None = _setting(
        None,
        "1 - cosine to the centre, the distance beyond the cluster radius, or both.",
        kind="choice",
        choices=LOSS_NAMES,
        shown="cosine",
    )
    radius: Annotated[float | str | None, BeforeValidator(values.radius)] = _setting(
        None,
        'Length of the centres for the distance loss; "native" as the family defines them.',
        kind="open",
        choices=("native",),
        shown="1, for planar 5",
    )
    cluster_radius: float | None = _setting(
        None, "Distance from the centre within which the distance loss is 0.", shown="0, for planar 4/N", ge=0, lt=1e6
    )
    weights: Annotated[tuple[float, float] | None, BeforeValidator(values.listed)] = _setting(
        None,
        "Weights of cosine and distance in cosine+distance, both means over the batch; [1, batch size] sums the "
        "distance, as arXiv:2510.04090 (6) prints it.",
        kind="list",
        shown="[1, 1]",
    )
    bottleneck: Annotated[int | str | None, BeforeValidator(values.bottleneck)] = _setting(
        None,
        'Width of a linear layer before the class layer (ce): none, n, or "min:SYSTEM".',
        kind="open",
        choices=("none", "min:V21"),
        shown="none",
    )
    within: Literal["none", "kld", "gaussian"] | None = _setting(
        None,
        "Loss on the distribution within classes, added to that of lsc: Kullback-Leibler divergence from a Gaussian, "
        "or its mean and standard deviation matched.",
        shown="none",
    )
    within_weight: float | None = _setting(None, "Weight of the loss within classes.", shown="0.1", gt=0, le=1e6)
    teacher: str | None = _setting(
        None, "A run, or @variant, trained with ce: its logits teach this one (ce).", shown="none", min_length=1
    )
    teacher_weight: float | None = _setting(
        None, "Share of the teacher's loss; the rest is that of the labels.", shown="0.5 with a teacher", gt=0, le=1
    )
    temperature: float | None = _setting(
        None,
        "Temperature of the teacher's and the student's logits (ce), or of the cosines of views (ssl).",
        shown="4 with a teacher, 0.5 for ssl",
        gt=0,
        le=1000,
    )


class Optimizer(Section):
    """[optimizer]: AdamW unless named otherwise, and the learning rate over time."""

    name: Literal["adamw", "sgd"] = _setting("adamw", "The optimizer.")
    lr: float = _setting(1e-4, "Learning rate.", gt=0, le=1000)
    weight_decay: float = _setting(1e-5, "Weight decay.", ge=0, le=100)
    momentum: float | None = _setting(None, "Momentum of sgd.", shown="0.9 for sgd", ge=0, lt=1)
    schedule: Literal["constant", "cosine", "steps"] = _setting(
        "constant", "The learning rate after the warm-up: constant, cosine to 0, or times gamma at the milestones."
    )
    warmup: LengthOrNone = _setting("0 steps", "Linear rise from 0 at the start.", kind="duration")
    milestones: Lengths | None = _setting(
        None,
        "When the learning rate is multiplied by gamma (schedule steps).",
        kind="durations",
        shown="required for steps",
    )
    gamma: float | None = _setting(None, "Factor at each milestone (schedule steps).", shown="0.1", gt=0, le=1)


class Train(Section):
    """[train]: how long, in what batches."""

    duration: Length = _setting(..., "Length of the training.", kind="duration")
    until: Annotated[dict[str, float], AfterValidator(_known_metrics)] | None = _setting(
        None, "End at the first evaluation at which these metrics are all reached.", kind="table", shown="none"
    )
    batch_size: int = _setting(256, "Images per step.", ge=1, le=2**20)
    precision: Literal["auto", "bf16", "float32"] = _setting("auto", "auto: bf16 on CUDA, float32 on the CPU.")
    compile: Literal["auto", "on", "off", "graphs"] = _setting(
        "auto", "Compile the step with torch.compile; auto: on CUDA. graphs: CUDA graphs besides, for small networks."
    )


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
    )
    shift: Literal["none", "moved", "turned", "noise", "contrast"] | None = _setting(
        None,
        "Validate also on images changed in this way: val/accuracy_shifted.",
        shown="none",
    )
    ncc: bool | None = _setting(
        None,
        "Measure nearest-class-centre accuracy of every layer and neural collapse; one more pass over the images.",
        kind="flag",
        shown="false, for adaptive layers true",
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


# The settings of one run, section by section: what a variant may change.
SECTIONS: dict[str, type[Section]] = {
    "data": Data,
    "model": Model,
    "target": Target,
    "optimizer": Optimizer,
    "train": Train,
    "eval": Eval,
    "log": Log,
    "checkpoint": Checkpoint,
}
