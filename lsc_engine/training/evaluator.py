"""What an evaluation measures, and on which images: the same for all runs of a study."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lsc_engine.config import Derived, RunConfig
from lsc_engine.data import Batch, ImageSource, eval_batches, fixed_subset, shifted, two_views, view_keys
from lsc_engine.data.evaluation import VIEW_EPOCH
from lsc_engine.heads.base import Head
from lsc_engine.training.embedding_recorder import EmbeddingRecorder
from lsc_engine.training.evaluate import Watcher, evaluate, nearest_means
from lsc_engine.training.neural_collapse import NeuralCollapse

# By the first of these that an evaluation has, the best checkpoint is told.
SCORES = ("val/accuracy", "train/accuracy", "val/accuracy_means", "train/accuracy_means")
# Images at a time, at least; evaluation keeps no activations.
LEAST_BATCH = 512


class Measure:
    """Calling it gives the metrics by name. `known`: the classes below it are those that the run it started from knew,
    and their accuracy is told apart from that of the others."""

    def __init__(
        self, config: RunConfig, derived: Derived, folder: Path, model: nn.Module, head: Head, source: ImageSource,
        validation: ImageSource | None, *, width: int, device: torch.device, dtype: torch.dtype | None,
        known: int | None = None,
    ) -> None:  # fmt: skip
        self.config, self.model, self.head, self.classes = config, model, head, derived.classes
        self.source, self.validation = source, validation
        self.seen = fixed_subset(source.images, derived.eval_images)
        self.watch = EmbeddingRecorder(
            folder, head, source, self.seen, setting=config.eval.embeddings, every=derived.eval_every, width=width
        )
        self.unseen = fixed_subset(validation.images, derived.eval_images) if validation else None
        self.batch = max(config.train.batch_size, LEAST_BATCH)
        self.known = known if known is not None and known < derived.classes else None
        self._options: dict[str, Any] = {"device": device, "dtype": dtype}

    def __call__(self, go_on: Callable[[], None]) -> dict[str, float]:
        """Metrics on the fixed training images and, where there are any, on the validation images. `go_on` is called
        before each batch."""
        self.watch.begin()
        if not self.head.learns_labels:
            return self._by_means(go_on)
        if not self.config.eval.ncc:
            return self._by_labels(go_on, None)
        with NeuralCollapse(self.model, self.head, self.classes, self._options["device"]) as collapse:
            return self._by_labels(go_on, collapse)

    def _by_labels(self, go_on: Callable[[], None], collapse: NeuralCollapse | None) -> dict[str, float]:
        learn = [] if collapse is None else [collapse.fit]
        seen = self._evaluate(self._batches(self.source, self.seen, go_on), self.watch.see, *learn)
        values = {"train/accuracy": seen.pop("accuracy"), "train/loss_eval": seen.pop("loss")}
        values |= {f"train/{name}": value for name, value in seen.items()}
        if self.config.data.augment != "none":
            views = (self.config.seed, self.config.data.augment_per)
            augmented = self._evaluate(self._batches(self.source, self.seen, go_on, views=views))
            values["train/accuracy_augmented"] = augmented["accuracy"]
        if collapse is not None:
            judge = collapse.evaluator()
            self._evaluate(self._batches(self.source, self.seen, go_on), judge.update)
            values |= judge.metrics("train")
        if self.validation is not None and self.unseen is not None:
            judges = [] if collapse is None else [collapse.evaluator()]
            unseen = self._evaluate(self._batches(self.validation, self.unseen, go_on), *(j.update for j in judges))
            unseen.pop("inside", None)
            values |= {f"val/{name}": value for name, value in unseen.items()}
            for judge in judges:
                values |= judge.metrics("val")
            values |= self._shifted(self._batches(self.validation, self.unseen, go_on))
        return values

    def score(self, values: dict[str, float]) -> float:
        """The value by which a checkpoint is the best."""
        return next(values[name] for name in SCORES if name in values)

    def _evaluate(self, batches: Iterator[Batch[None]], *watchers: Watcher) -> dict[str, float]:
        return evaluate(self.model, self.head, batches, known=self.known, watchers=watchers, **self._options)

    def _batches(
        self, source: ImageSource, index: Tensor, go_on: Callable[[], None], **views: Any
    ) -> Iterator[Batch[None]]:
        for batch in eval_batches(source, index, self.batch, **views):
            go_on()
            yield batch

    def _shifted(self, batches: Iterator[Batch[None]]) -> dict[str, float]:
        """The same on validation images under `eval.shift`."""
        kind = self.config.eval.shift
        if kind is None:
            return {}
        changed = (replace(b, images=shifted(b.images, b.index, kind)) for b in batches)
        found = evaluate(self.model, self.head, changed, **self._options)
        return {"val/accuracy_shifted": found["accuracy"], "val/loss_shifted": found["loss"]}

    def _by_means(self, go_on: Callable[[], None]) -> dict[str, float]:
        """Accuracy by the nearest class mean of the evaluated training images: a self-supervised run has learnt no
        label. With unique labels an image is its own mean, so a view of it is asked for instead."""
        asked = self._batches(self.source, self.seen, go_on)
        if self.config.data.labels == "unique":
            asked = (replace(b, images=self._view(b)) for b in self._batches(self.source, self.seen, go_on))
        queries = {"train/accuracy_means": asked}
        if self.validation is not None and self.unseen is not None:
            queries["val/accuracy_means"] = self._batches(self.validation, self.unseen, go_on)
        means = self._batches(self.source, self.seen, go_on)
        return nearest_means(self.model, means, queries, watchers=[self.watch.see], **self._options)

    def _view(self, batch: Batch[None]) -> Tensor:
        return two_views(batch.images, view_keys(self.config.seed, VIEW_EPOCH, batch.index))[:, 0]
