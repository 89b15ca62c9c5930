"""Runs with embeddings for the tests of the viewer: made-up values, written with the engine's own writer."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from samples import CHANGED, make_study

from lsc_engine.runs.read.embeddings import Angles, Points, write_snapshot

SPHERE, PLANE, HIGH = "V21-384/seed-0", "V21-min/seed-0", "A-384/seed-0"
STUDY = "emb"
EVERY, TOTAL = 40, 800
# Ten of the twelve roots of A at n = 3, as used.
ROOTS = np.array(
    [
        [1, -1, 0], [-1, 1, 0], [1, 0, -1], [-1, 0, 1], [1, 0, 0],
        [-1, 0, 0], [0, 1, -1], [0, -1, 1], [0, 1, 0], [0, -1, 0],
    ], float,
)  # fmt: skip
CENTRES = ROOTS / np.linalg.norm(ROOTS, axis=1, keepdims=True)


def sphere(step: int, classes: int = 10) -> Points:
    """Images that come nearer to their centres with every step."""
    rng = np.random.default_rng(7)
    label = rng.integers(0, 10, 400)
    noise = rng.normal(size=(400, 3))
    spread = 1.5 * np.exp(-3 * step / TOTAL)
    z = (CENTRES[label] + spread * noise) * rng.uniform(2, 5, (400, 1))
    return _points(step, z, label, CENTRES, classes=classes, min_angle=45.0, free_length=True, radius=None)


def plane(step: int) -> Points:
    """Sixteen places on a circle of radius 5, ten of them taken."""
    rng = np.random.default_rng(8)
    angle = 2 * np.pi * np.arange(10) / 16
    centres = 5 * np.stack([np.cos(angle), np.sin(angle)], 1)
    label = rng.integers(0, 10, 400)
    grown = min(1.0, 1.6 * step / TOTAL)
    z = grown * centres[label] + rng.normal(size=(400, 2)) * (0.7 - 0.4 * grown)
    return _points(step, z, label, centres, classes=10, min_angle=22.5, free_length=False, radius=0.25)


def _points(step: int, z: np.ndarray, label: np.ndarray, centres: np.ndarray, *, classes: int, min_angle: float,
            free_length: bool, radius: float | None) -> Points:  # fmt: skip
    cosine = z @ centres.T / np.linalg.norm(centres, axis=1)
    return Points(
        step,
        step / 4,
        classes,
        min_angle,
        free_length,
        radius,
        z,
        label,
        cosine.argmax(1),
        np.arange(len(centres)),
        centres,
    )


def angles(step: int) -> Angles:
    """Angles of 256 images in many dimensions."""
    rng = np.random.default_rng(9)
    done = step / TOTAL
    own = np.clip(rng.normal(88 - 70 * done, 6, 256), 0, 179)
    other = np.clip(rng.normal(76, 3, 256), 0, 179)
    own_counts, other_counts = (np.bincount(v.astype(int), minlength=180) for v in (own, other))
    inside, wrong = float((own < 24.1).mean()), float((other < own).mean())
    return Angles(step, step / 4, 1797, 48.19, 384, own_counts, other_counts, inside, wrong)


def make_embedded(root: Path) -> Path:
    """A study of three runs, each with embeddings of another kind; the first is at work."""
    rows = [
        ("A-384", 0, "finished", 200, 0.3),
        ("V21-384", 0, "running", 120, 0.2),
        ("V21-min", 0, "finished", 200, 0.2),
    ]
    for identifier, folder in make_study(root, rows, name=STUDY).items():
        last = 480 if identifier.endswith(SPHERE) else TOTAL
        made = {SPHERE: sphere, PLANE: plane, HIGH: angles}["/".join(identifier.split("/")[1:])]
        for step in range(EVERY, last + 1, EVERY):
            os.utime(write_snapshot(folder, made(step)), (CHANGED, CHANGED))
    return root
