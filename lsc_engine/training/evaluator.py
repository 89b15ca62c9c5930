"""Evaluation: accuracy and loss in evaluation mode, by the head's own exact decode, on images fixed for all runs of a
study; when it is due, and what is measured besides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lsc_engine.data.batches import Batch
from lsc_engine.data.evaluation import VIEW_EPOCH, eval_batches, fixed_subset
from lsc_engine.data.source import ImageSource
from lsc_engine.data.stream import WorkerLostError
from lsc_engine.data.views import shifted, two_views, view_keys
from lsc_engine.heads.base import Head
from lsc_engine.training.context import MOST_WORKER_FAILURES, RunContext
from lsc_engine.training.embedding_recorder import EmbeddingRecorder
from lsc_engine.training.neural_collapse import NeuralCollapse
from lsc_engine.training.schedule import is_time
from lsc_engine.training.signals import Interrupted
from lsc_engine.training.step import out_of_memory

# Receives embeddings [B, n] float32, labels [B], predicted labels [B].
BatchObserver = Callable[[Tensor, Tensor, Tensor], None]
# The best checkpoint is chosen by the first of these that an evaluation has.
SCORES = ("val/accuracy", "train/accuracy", "val/accuracy_means", "train/accuracy_means")
# Images at a time, at least; evaluation keeps no activations.
LEAST_BATCH = 512
# Cosines in memory at once, 64 MB of float32.
SCORES_AT_ONCE = 2**24


class Evaluator:
    """Evaluates `model` and `head` of a run, on training images and, if there are any, on validation images.

    `known_classes`: classes below it were known to the run that this one started from; their accuracy is also reported
    apart from that of the others.
    """

    def __init__(
        self, run: RunContext, model: nn.Module, head: Head, source: ImageSource, validation: ImageSource | None, *,
        width: int, known_classes: int | None = None,
    ) -> None:  # fmt: skip
        derived = run.derived
        self._run, self._config, self._model, self._head = run, run.config, model, head
        self._classes, self._every = derived.classes, derived.eval_every
        self._source, self._validation = source, validation
        self._train_index = fixed_subset(source.images, derived.eval_images)
        self._val_index = fixed_subset(validation.images, derived.eval_images) if validation else None
        self.recorder = EmbeddingRecorder(
            run.folder, head, source, self._train_index, setting=run.config.eval.embeddings, every=derived.eval_every,
            width=width,
        )  # fmt: skip
        self.batch_size = max(run.config.train.batch_size, LEAST_BATCH)
        self._known = known_classes if known_classes is not None and known_classes < derived.classes else None
        self.pending = False
        """An evaluation to run before the next step: of the initial weights of another run, or one that was stopped."""
        self.score: float | None = None
        """The value of the last evaluation that checkpoints are compared by."""

    def due(self, step: int, total: int) -> bool:
        return is_time(step, self._every, total)

    def state_dict(self) -> dict[str, Any]:
        return {"owes_evaluation": self.pending}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.pending = state["owes_evaluation"]

    def evaluate(self, step: int) -> dict[str, float] | None:
        """The metrics after `step`; None if a stop cuts it short, which leaves it pending. Lost workers are replaced;
        running out of memory halves the batches."""
        self.pending = True
        failures = 0
        while True:
            try:
                values = self._metrics(step)
                break
            except Interrupted:
                return None
            except WorkerLostError as error:
                failures += 1
                if failures == MOST_WORKER_FAILURES:
                    raise
                self._run.writer.message(f"evaluation after step {step}: {error}; it begins again")
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or self.batch_size == 1:
                    raise
                self.batch_size //= 2
                self._run.writer.message(
                    f"evaluation after step {step}: out of memory, {self.batch_size} images at a time from here on"
                )
        self.pending = False
        self.score = next(values[name] for name in SCORES if name in values)
        return values

    def class_means(self, step: int) -> Tensor:
        """The mean embedding of every class over all training images, [classes, n] float32. Interrupted by a stop."""
        batches = self._batches(self._source, torch.arange(self._source.images), step)
        return class_means(self._model, batches, self._classes, device=self._run.device, dtype=self._run.dtype)

    def _batches(self, source: ImageSource, index: Tensor, step: int, **options: Any) -> Iterator[Batch[None]]:
        for batch in eval_batches(source, index, self.batch_size, **options):
            self._run.keep_alive(step)
            yield batch

    def _metrics(self, step: int) -> dict[str, float]:
        self.recorder.begin()
        if not self._head.learns_labels:
            return self._by_class_means(step)
        if not self._config.eval.ncc:
            return self._by_labels(step, None)
        with NeuralCollapse(self._model, self._head, self._classes, self._run.device) as collapse:
            return self._by_labels(step, collapse)

    def _by_labels(self, step: int, collapse: NeuralCollapse | None) -> dict[str, float]:
        def train(**options: Any) -> Iterator[Batch[None]]:
            return self._batches(self._source, self._train_index, step, **options)

        observers = [self.recorder.update] if collapse is None else [self.recorder.update, collapse.fit]
        found = self._evaluate(train(), *observers)
        values = {"train/accuracy": found.pop("accuracy"), "train/loss_eval": found.pop("loss")}
        values |= {f"train/{name}": value for name, value in found.items()}
        if self._config.data.augment != "none":
            augmented = self._evaluate(train(views=(self._config.seed, self._config.data.augment_per)))
            values["train/accuracy_augmented"] = augmented["accuracy"]
        if collapse is not None:
            by_layer = collapse.evaluator()
            self._evaluate(train(), by_layer.update)
            values |= by_layer.metrics("train")
        if self._validation is not None and self._val_index is not None:
            layers = [] if collapse is None else [collapse.evaluator()]
            batches = self._batches(self._validation, self._val_index, step)
            found = self._evaluate(batches, *(each.update for each in layers))
            found.pop("inside", None)
            values |= {f"val/{name}": value for name, value in found.items()}
            for each in layers:
                values |= each.metrics("val")
            if (kind := self._config.eval.shift) is not None:
                batches = self._batches(self._validation, self._val_index, step)
                found = self._evaluate(replace(b, images=shifted(b.images, b.index, kind)) for b in batches)
                values |= {"val/accuracy_shifted": found["accuracy"], "val/loss_shifted": found["loss"]}
        return values

    def _evaluate(self, batches: Iterable[Batch[None]], *observers: BatchObserver) -> dict[str, float]:
        run = self._run
        return evaluate(
            self._model, self._head, batches, device=run.device, dtype=run.dtype, known=self._known, observers=observers
        )

    def _by_class_means(self, step: int) -> dict[str, float]:
        """Accuracy by the nearest class mean of the evaluated training images: a self-supervised run has learnt no
        label. With unique labels an image is its own mean, so a view of it is classified instead."""
        queries: dict[str, Iterable[Batch[None]]] = {
            "train/accuracy_means": self._batches(self._source, self._train_index, step)
        }
        if self._config.data.labels == "unique":
            plain = self._batches(self._source, self._train_index, step)
            queries["train/accuracy_means"] = (replace(b, images=self._view(b)) for b in plain)
        if self._validation is not None and self._val_index is not None:
            queries["val/accuracy_means"] = self._batches(self._validation, self._val_index, step)
        return nearest_means(
            self._model, self._batches(self._source, self._train_index, step), queries, device=self._run.device,
            dtype=self._run.dtype, observers=[self.recorder.update],
        )  # fmt: skip

    def _view(self, batch: Batch[None]) -> Tensor:
        return two_views(batch.images, view_keys(self._config.seed, VIEW_EPOCH, batch.index))[:, 0]


@torch.no_grad()
def evaluate(
    model: nn.Module,
    head: Head,
    batches: Iterable[Batch[None]],
    *,
    device: torch.device,
    dtype: torch.dtype | None,
    known: int | None = None,
    observers: Sequence[BatchObserver] = (),
) -> dict[str, float]:
    """{"loss", "accuracy"} over `batches`, for LSC "inside" (the share of images closer to their own centre than half
    the smallest angle) and, with `known` classes, "accuracy_old" of classes below that number and "accuracy_new" of the
    others; one host sync, at the end. `observers` receive every batch."""
    was_training = model.training
    model.eval()
    sums = torch.zeros(6, dtype=torch.float64, device=device)
    try:
        for batch in batches:
            labels = batch.labels.to(device)
            z = embed(model, batch.images, device, dtype)
            target = head.target(labels)
            inside, predicted = head.within_half_angle(z, target), head.predict(z)
            right = predicted == labels
            sums[0] += head.losses(z, target).double().sum()
            sums[1] += right.sum()
            sums[2] += torch.nan if inside is None else inside.sum()
            sums[3] += len(labels)
            if known is not None:
                sums[4] += (right & (labels < known)).sum()
                sums[5] += (labels < known).sum()
            for observe in observers:
                observe(z, labels, predicted)
    finally:
        model.train(was_training)
    loss, right, inside, count, right_old, old = sums.tolist()
    values = {"loss": loss / count, "accuracy": right / count}
    if inside == inside:
        values["inside"] = inside / count
    if known is not None and 0 < old < count:
        values |= {"accuracy_old": right_old / old, "accuracy_new": (right - right_old) / (count - old)}
    return values


@torch.no_grad()
def nearest_means(
    model: nn.Module,
    seen: Iterable[Batch[None]],
    queries: Mapping[str, Iterable[Batch[None]]],
    *,
    device: torch.device,
    dtype: torch.dtype | None,
    observers: Sequence[BatchObserver] = (),
) -> dict[str, float]:
    """By name, the share of each query's images whose embedding has the largest cosine to the mean of its own class;
    means are those of the classes among the `seen` images, which the `observers` receive."""
    was_training = model.training
    model.eval()
    try:
        pairs = [(embed(model, b.images, device, dtype), b.labels.to(device)) for b in seen]
        classes, place = torch.cat([labels for _, labels in pairs]).unique(return_inverse=True)
        rows = torch.cat([z for z, _ in pairs])
        means = torch.zeros(len(classes), rows.shape[1], device=device).index_add_(0, place, rows)
        means = torch.nn.functional.normalize(means, dim=1)
        for observe in observers:
            for z, labels in pairs:
                observe(z, labels, classes[_nearest(z, means)])
        values = {}
        for name, batches in queries.items():
            right, count = torch.zeros((), dtype=torch.int64, device=device), 0
            for batch in batches:
                predicted = classes[_nearest(embed(model, batch.images, device, dtype), means)]
                right += (predicted == batch.labels.to(device)).sum()
                count += len(predicted)
            values[name] = right.item() / count
    finally:
        model.train(was_training)
    return values


def _nearest(z: Tensor, means: Tensor) -> Tensor:
    """The row of `means` with the largest cosine to each embedding."""
    rows = max(1, SCORES_AT_ONCE // len(means))
    return torch.cat([(part @ means.T).argmax(1) for part in z.split(rows)])


@torch.no_grad()
def class_means(
    model: nn.Module,
    batches: Iterable[Batch[None]],
    classes: int,
    *,
    device: torch.device,
    dtype: torch.dtype | None,
) -> Tensor:
    """The mean embedding of every class over `batches`, [classes, n] float32, in evaluation mode.

    arXiv:2510.04090 calls the rows CEembs if the run was trained with cross-entropy.
    """
    model.eval()
    sums: Tensor | None = None
    counts = torch.zeros(classes, dtype=torch.float64, device=device)
    for batch in batches:
        labels = batch.labels.to(device)
        z = embed(model, batch.images, device, dtype).double()
        if sums is None:
            sums = torch.zeros(classes, z.shape[1], dtype=torch.float64, device=device)
        sums.index_add_(0, labels, z)
        counts += torch.bincount(labels, minlength=classes)
    assert sums is not None
    return (sums / counts.clamp(min=1).unsqueeze(1)).float()


def embed(model: nn.Module, images: Tensor, device: torch.device, dtype: torch.dtype | None) -> Tensor:
    """The embeddings [B, n] float32 of images [B, C, S, S] in [-1, 1]."""
    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        z: Tensor = model(images.to(device, non_blocking=True))
    return z.float()
