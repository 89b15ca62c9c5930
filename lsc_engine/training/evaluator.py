"""Evaluation: accuracy and loss in evaluation mode, by the head's own exact decode, on images fixed for all runs of a
study, and what is measured besides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from lsc_engine.data.augment import shifted, two_views, view_keys
from lsc_engine.data.batches import VIEW_EPOCH, Batch, eval_batches, fixed_subset
from lsc_engine.data.source import ImageSource
from lsc_engine.data.stream import WorkerLostError
from lsc_engine.heads.base import Head
from lsc_engine.training.context import MOST_WORKER_FAILURES, RunContext
from lsc_engine.training.embedding_metrics import MOST_IMAGES, Embedded, measure
from lsc_engine.training.embedding_recorder import EmbeddingRecorder
from lsc_engine.training.neural_collapse import NeuralCollapse
from lsc_engine.training.run_images import open_ood
from lsc_engine.training.signals import Interrupted
from lsc_engine.training.step import CompileFailedError, compile_failed, make_embedding, out_of_memory

# Receives embeddings [B, n] float32, labels [B], predicted labels [B].
BatchObserver = Callable[[Tensor, Tensor, Tensor], None]
Batches = Iterable[Batch[None]]
# The best checkpoint is chosen by the first of these that an evaluation has.
SCORES = ("val/accuracy", "train/accuracy", "val/accuracy_means", "train/accuracy_means")
# Images at a time, at least; evaluation keeps no activations. Processes of one run deal out small batches.
LEAST_BATCH, LEAST_BATCH_CUDA = 512, 4096
# Cosines in memory at once, 64 MB of float32.
SCORES_AT_ONCE = 2**24


class Evaluator:
    """Evaluates `model` and `head` of a run, on training images and, if there are any, on validation images.

    `known`: classes below it were known to the run that this one started from; their accuracy is also reported apart
    from that of the others.
    """

    def __init__(
        self,
        run: RunContext,
        model: nn.Module,
        head: Head,
        source: ImageSource,
        validation: ImageSource | None,
        width: int,
        known: int | None = None,
    ) -> None:
        derived = run.derived
        self._run, self._config, self._model, self._head = run, run.config, model, head
        self._classes = derived.classes
        self._train = source, fixed_subset(source.images, derived.eval_images)
        self._val = (validation, fixed_subset(validation.images, derived.eval_images)) if validation else None
        setting = run.config.eval.embeddings
        self.recorder = EmbeddingRecorder(run.folder, head, *self._train, setting, derived.eval_every, width)
        alone = run.device.type == "cuda" and run.mesh.size == 1
        least = max(LEAST_BATCH, min(LEAST_BATCH_CUDA, derived.eval_images)) if alone else LEAST_BATCH
        self.batch_size = max(run.config.train.batch_size, least)
        self._known = known if known is not None and known < derived.classes else None
        self.compiled = False
        """Whether evaluations embed images by the compiled network."""
        self.pending = False
        """An evaluation to run before the next step: of the initial weights of another run, or one that was stopped."""
        self.score: float | None = None
        """The value of the last evaluation that checkpoints are compared by."""

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
            except Exception as error:
                if self.compiled and compile_failed(error):
                    self.compiled = False
                    self._run.writer.message(f"evaluation after step {step}: {CompileFailedError(error)}; it goes on")
                    continue
                if not out_of_memory(error) or self.batch_size == 1 or self._run.mesh.size > 1:
                    raise
                self.batch_size //= 2
                smaller = f"{self.batch_size} images at a time from here on"
                self._run.writer.message(f"evaluation after step {step}: out of memory, {smaller}")
        self.pending = False
        self.score = next(values[name] for name in SCORES if name in values)
        return values

    def _batches(
        self, images: tuple[ImageSource, Tensor], step: int, split: bool = False, **options: Any
    ) -> Iterator[Batch[None]]:
        """The batches of images; with `split` only those of this process."""
        source, index = images
        if split:
            own = index.split(self.batch_size)[self._run.mesh.rank :: self._run.mesh.size]
            if not own:
                return
            index = torch.cat(own)
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
        data = self._config.data
        observers = [self.recorder.update] if self.recorder.on else []
        observers += [] if collapse is None else [collapse.fit]
        found = self._shared(self._train, step, *observers)
        values = {"train/accuracy": found.pop("accuracy"), "train/loss_eval": found.pop("loss")}
        values |= {f"train/{name}": value for name, value in found.items()}
        if data.augment != "none":
            views = self._batches(self._train, step, views=(self._config.seed, data.augment_per))
            values["train/accuracy_augmented"] = self._evaluate(views)["accuracy"]
        if collapse is not None:
            by_layer = collapse.evaluator()
            self._evaluate(self._batches(self._train, step), by_layer.update)
            values |= by_layer.metrics("train")
        if self._val is not None:
            layers = [] if collapse is None else [collapse.evaluator()]
            found = self._shared(self._val, step, *(each.update for each in layers))
            found.pop("inside", None)
            values |= {f"val/{name}": value for name, value in found.items()}
            for each in layers:
                values |= each.metrics("val")
            if (kind := self._config.eval.shift) is not None:
                batches = self._batches(self._val, step)
                found = self._evaluate(replace(b, images=shifted(b.images, b.index, kind)) for b in batches)
                values |= {"val/accuracy_shifted": found["accuracy"], "val/loss_shifted": found["loss"]}
        return values

    def _shared(self, images: tuple[ImageSource, Tensor], step: int, *observers: BatchObserver) -> dict[str, float]:
        """`_evaluate` with the batches dealt out to the processes of the run, unless `observers` need all of them."""
        if self._run.mesh.size == 1 or observers:
            return self._evaluate(self._batches(images, step), *observers)
        return self._evaluate(self._batches(images, step, split=True), merge=self._run.mesh.interleave)

    def _evaluate(
        self, batches: Batches, *observers: BatchObserver, merge: Callable[[Tensor], Tensor] | None = None
    ) -> dict[str, float]:
        return evaluate(
            self._model,
            self._head,
            batches,
            device=self._run.device,
            dtype=self._run.dtype,
            known=self._known,
            observers=observers,
            merge=merge,
            embedding=self._embed if self.compiled else None,
        )

    @cached_property
    def _embedding(self) -> Callable[[Tensor], Tensor]:
        return make_embedding(self._model, self._run.device, self._run.dtype)

    def _embed(self, images: Tensor) -> Tensor:
        """By the compiled network; a smaller last batch is filled up, for which it would be compiled again."""
        rows = len(images)
        filled = nn.functional.pad(images, (0, 0, 0, 0, 0, 0, 0, self.batch_size - rows))
        return self._embedding(filled.to(self._run.device, non_blocking=True))[:rows]

    @torch.no_grad()
    def _by_class_means(self, step: int) -> dict[str, float]:
        """Accuracy by the largest cosine to the class means of the evaluated training images: a self-supervised run has
        learnt no label. With unique labels an image is its own mean, so a view of it is classified instead."""
        seed, device, values = self._config.seed, self._run.device, {}
        queries: dict[str, Batches] = {"train/accuracy_means": self._batches(self._train, step)}
        if self._config.data.labels == "unique":
            queries["train/accuracy_means"] = (
                replace(b, images=two_views(b.images, view_keys(seed, VIEW_EPOCH, b.index))[:, 0])
                for b in self._batches(self._train, step)
            )
        if self._val is not None:
            queries["val/accuracy_means"] = self._batches(self._val, step)

        embedded = self._embedded
        with evaluation_mode(self._model):
            pairs = list(embedded(self._batches(self._train, step)))
            classes, place = torch.cat([labels for _, labels in pairs]).unique(return_inverse=True)
            rows = torch.cat([z for z, _ in pairs])
            means = torch.zeros(len(classes), rows.shape[1], device=device).index_add_(0, place, rows)
            means = torch.nn.functional.normalize(means, dim=1)

            def nearest(z: Tensor) -> Tensor:
                parts = z.split(max(1, SCORES_AT_ONCE // len(means)))
                return classes[torch.cat([(part @ means.T).argmax(1) for part in parts])]

            for z, labels in pairs:
                self.recorder.update(z, labels, nearest(z))
            for name, batches in queries.items():
                right, count = torch.zeros((), dtype=torch.int64, device=device), 0
                for z, labels in embedded(batches):
                    right += (nearest(z) == labels).sum()
                    count += len(labels)
                values[name] = right.item() / count
        return values

    @torch.no_grad()
    def _embedded(self, batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
        """Embeddings [B, n] float32 and labels [B] of batches, as the model is."""
        device = self._run.device
        for batch in batches:
            yield embed(self._model, batch.images, device, self._run.dtype), batch.labels.to(device)

    def all_embeddings(self, step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Embeddings [B, n] float32 and labels [B] of all training images, as the model is. Interrupted by a stop."""
        source = self._train[0]
        return self._embedded(self._batches((source, torch.arange(source.images)), step))

    def measure_also(self, step: int) -> tuple[dict[str, float], list[str]]:
        """The metrics of eval.also, and a sentence for each that there is none of. Interrupted by a stop."""
        run = self._run
        if self._val is None:
            return {}, [f"eval.also: {self._config.data.dataset} has no validation images"]
        train = self._train[0]
        images = [(train, fixed_subset(train.images, MOST_IMAGES)), self._val]
        if self._config.eval.ood is not None:
            source = open_ood(self._config, run.data_dir, run.device, run.report)
            images.append((source, fixed_subset(source.images, run.derived.eval_images)))
        with evaluation_mode(self._model):
            pairs = [zip(*self._embedded(self._batches(each, step)), strict=True) for each in images]
        own, val, *other = (Embedded(*map(torch.cat, pair)) for pair in pairs)
        return measure(self._head, self._config.eval.also or (), own, val, ood=other[0].z if other else None)

    @torch.no_grad()
    def class_means(self, step: int, observe: Callable[[Tensor], None] | None = None) -> Tensor:
        """The mean embedding of every class over all training images, [classes, n] float32, in evaluation mode, 0 for a
        class without images: CEembs of arXiv:2510.04090 if the run was trained with cross-entropy. `observe` receives
        the embeddings of every batch. Interrupted by a stop."""
        # With one image a class there is nothing to add up.
        dtype = torch.float32 if self._config.data.labels == "unique" else torch.float64
        self._model.eval()
        sums: Tensor | None = None
        counts = torch.zeros(self._classes, dtype=dtype, device=self._run.device)
        for z, labels in self.all_embeddings(step):
            if sums is None:
                sums = torch.zeros(self._classes, z.shape[1], dtype=dtype, device=z.device)
            sums.index_add_(0, labels, z.to(dtype))
            counts += torch.bincount(labels, minlength=self._classes)
            if observe is not None:
                observe(z)
        assert sums is not None
        return sums.div_(counts.clamp_(min=1).unsqueeze(1)).float()


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Dropout off and stored batch statistics; afterwards the mode is as before."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@torch.no_grad()
def evaluate(
    model: nn.Module,
    head: Head,
    batches: Batches,
    *,
    device: torch.device,
    dtype: torch.dtype | None,
    known: int | None = None,
    observers: Sequence[BatchObserver] = (),
    merge: Callable[[Tensor], Tensor] | None = None,
    embedding: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, float]:
    """{"loss", "accuracy"} over `batches`, for LSC "inside" (the share of images closer to their own centre than half
    the smallest angle) and, with `known` classes, "accuracy_old" of classes below that number and "accuracy_new" of the
    others; one host sync, at the end. `observers` receive every batch. `merge` makes of the sums of these batches, one
    a row, those of all batches; `embedding` is what embeds images in place of `model`."""
    rows = []
    with evaluation_mode(model):
        for batch in batches:
            labels = batch.labels.to(device)
            z = embed(model, batch.images, device, dtype) if embedding is None else embedding(batch.images)
            target = head.target(labels)
            inside, predicted = head.within_half_angle(z, target), head.predict(z)
            right = predicted == labels
            sums = torch.zeros(6, dtype=torch.float64, device=device)
            sums[0] += head.losses(z, target).double().sum()
            sums[1] += right.sum()
            sums[2] += torch.nan if inside is None else inside.sum()
            sums[3] += len(labels)
            if known is not None:
                sums[4] += (right & (labels < known)).sum()
                sums[5] += (labels < known).sum()
            rows.append(sums)
            for observe in observers:
                observe(z, labels, predicted)
    table = torch.stack(rows) if rows else torch.zeros(0, 6, dtype=torch.float64, device=device)
    sums = torch.zeros(6, dtype=torch.float64, device=device)
    # In the order of the batches, whoever computed them.
    for row in table if merge is None else merge(table):
        sums += row
    loss, right, inside, count, right_old, old = sums.tolist()
    values = {"loss": loss / count, "accuracy": right / count}
    if inside == inside:
        values["inside"] = inside / count
    if known is not None and 0 < old < count:
        values |= {"accuracy_old": right_old / old, "accuracy_new": (right - right_old) / (count - old)}
    return values


def embed(model: nn.Module, images: Tensor, device: torch.device, dtype: torch.dtype | None) -> Tensor:
    """The embeddings [B, n] float32 of images [B, C, S, S] in [-1, 1]."""
    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        z: Tensor = model(images.to(device, non_blocking=True))
    return z.float()
