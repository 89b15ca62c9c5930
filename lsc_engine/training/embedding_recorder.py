"""Snapshots of embeddings for viewers: of some evaluation images, recorded while they are evaluated.

No image passes the network for this, no random number is drawn, and the training is not affected.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lsc_engine.data.batches import fixed_subset
from lsc_engine.data.source import ImageSource
from lsc_engine.heads.base import Head
from lsc_engine.runs.folder.writer import RunWriter
from lsc_engine.runs.read.embeddings import BINS, Angles, Points, Snapshot, drop_after, thin, write_snapshot
from lsc_engine.vectors.bijection import Bijection

MOST_POINTS, MOST_CLASSES = 512, 64
MOST_ANGLES = 256
# With more classes the search for the nearest other centre would cost too much for "auto".
AUTO_CLASSES = 10_000
# Cosines in memory at once: 16 MB of float32.
COSINES_AT_ONCE = 2**22
# Room to be left on the disk for metrics and status.
MARGIN = 1 << 20


class EmbeddingRecorder:
    """Chooses the images once, keeps their embeddings during an evaluation, and writes them as a snapshot after it.

    `index`: the numbers of the evaluated images in `source`, in the order of the batches of `update`. `setting` is
    eval.embeddings.
    """

    def __init__(
        self, folder: Path, head: Head, source: ImageSource, index: Tensor, setting: str, every: int, width: int
    ) -> None:
        self.folder, self.head, self.every = folder, head, every
        n = head.project(torch.zeros(1, width, device=source.device)).shape[1]
        self.flat = n <= 3
        has_centres = head.centres(torch.zeros(1, dtype=torch.long, device=source.device)) is not None
        fits = self.flat or (has_centres and (setting == "on" or head.classes <= AUTO_CLASSES))
        self.on = setting != "off" and fits
        # Places in `index` of the recorded images, rising.
        self._positions = torch.arange(0)
        self._classes = torch.arange(min(head.classes, MOST_CLASSES))
        if self.on:
            self._choose(source, index)
        self.begin()

    def _choose(self, source: ImageSource, index: Tensor) -> None:
        if not self.flat or self.head.classes <= MOST_CLASSES:
            most = MOST_POINTS if self.flat else MOST_ANGLES
            self._positions = fixed_subset(len(index), most)
            return
        # A few of many classes, with as many of their images as fit.
        mixed = Bijection(len(index), 0, "embeddings shown")(torch.arange(len(index)))
        labels = source.labels(index[mixed].to(source.device)).cpu()
        self._classes = torch.tensor(sorted([*dict.fromkeys(labels.tolist())][:MOST_CLASSES]))
        self._positions = mixed[torch.isin(labels, self._classes)][:MOST_POINTS].sort().values

    def begin(self) -> None:
        """Start an evaluation, or start it again."""
        self._at = 0
        self._seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def update(self, z: Tensor, labels: Tensor, predicted: Tensor) -> None:
        """Add a batch: embeddings [B, n], labels [B], predicted labels [B]."""
        start, self._at = self._at, self._at + len(labels)
        rows = self._positions[(self._positions >= start) & (self._positions < self._at)] - start
        if len(rows):
            rows = rows.to(z.device)
            self._seen.append((self.head.project(z[rows]), labels[rows], predicted[rows]))

    def write(self, writer: RunWriter, step: int, epoch: float) -> None:
        """Write the snapshot. A disk that refuses it is reported in the status and does not end the training."""
        if not self._seen:
            return
        z, labels, predicted = (torch.cat(parts) for parts in zip(*self._seen, strict=True))
        self.begin()
        z = z.float()
        if not torch.isfinite(z).all():
            writer.message(f"embeddings of step {step} not kept: they hold values that are not finite")
            return
        snapshot = self._snapshot(z, labels, predicted, step, epoch)
        writer.check()
        try:
            if shutil.disk_usage(self.folder).free < MARGIN:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            write_snapshot(self.folder, snapshot)
        except OSError as error:
            writer.trouble("embeddings", f"embeddings of step {step}: {error.strerror or error}")
            return
        thin(self.folder, step, self.every)
        if "embeddings" in writer.troubles:
            writer.trouble("embeddings", None)

    def forget_after(self, step: int) -> None:
        """Drop later snapshots: the run continues from `step`."""
        if self.on:
            drop_after(self.folder, step)

    def _snapshot(self, z: Tensor, labels: Tensor, predicted: Tensor, step: int, epoch: float) -> Snapshot:
        head, angle = self.head, self.head.min_angle
        if not self.flat:
            own, other = (np.degrees(np.arccos(np.clip(_floats(c), -1, 1))) for c in own_and_other(z, labels, head))
            bins = [np.minimum(angles.astype(np.int64), BINS - 1) for angles in (own, other)]
            counts = np.bincount(bins[0], minlength=BINS), np.bincount(bins[1], minlength=BINS)
            inside = None if angle is None else float((own < angle / 2).mean())
            wrong = float((other < own).mean())
            return Angles(step, epoch, head.classes, angle, z.shape[1], *counts, wrong=wrong, inside=inside)
        classes = self._classes
        centres = head.centres(classes.to(z.device))
        if centres is None:
            classes, centres = classes[:0], z[:0]
        images = _floats(z), labels.cpu().numpy(), predicted.cpu().numpy()
        known = classes.numpy(), _floats(centres)
        return Points(step, epoch, head.classes, angle, head.directional, head.free_radius, *images, *known)


@torch.no_grad()
def own_and_other(z: Tensor, labels: Tensor, head: Head) -> tuple[Tensor, Tensor]:
    """Cosines [B] of embeddings [B, n] with the centre of their own class, and with the nearest centre of another."""
    unit = _unit(z)
    centres = head.centres(labels)
    assert centres is not None
    own = (unit * _unit(centres)).sum(1)
    other = torch.full_like(own, -1.0)
    rows = torch.arange(len(z), device=z.device)
    chunk = max(1, COSINES_AT_ONCE // max(len(z), z.shape[1]))
    for start in range(0, head.classes, chunk):
        part = torch.arange(start, min(start + chunk, head.classes), device=z.device)
        centres = head.centres(part)
        assert centres is not None
        cosines = unit @ _unit(centres).T
        # The own class does not count; a column outside this part is clamped and its value left as it is.
        column = (labels - start).clamp(0, len(part) - 1)
        here = (labels >= start) & (labels < start + len(part))
        cosines[rows, column] = torch.where(here, -1.0, cosines[rows, column])
        other = torch.maximum(other, cosines.amax(1))
    return own, other


def _unit(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows.detach().float(), dim=1)


def _floats(rows: Tensor) -> np.ndarray:
    return rows.detach().float().cpu().double().numpy()
