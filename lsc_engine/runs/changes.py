"""Where a run changed itself while it trained: layers that were fixed. Read from its metrics, for marks in charts."""

from __future__ import annotations

import numpy as np

from lsc_engine.runs.rows import Floats, Ints

# How many layers are fixed; only runs that fix layers as they go on have it.
FIXED = "model/fixed_layers"


def layers_fixed(counts: Floats) -> Ints:
    """The places in `counts` [N], the values of FIXED, at which there were more than before; 0 before the first."""
    known = np.where(np.isfinite(counts), counts, 0.0)
    highest = np.concatenate([[0.0], np.maximum.accumulate(known)])
    return np.flatnonzero(known > highest[:-1])
