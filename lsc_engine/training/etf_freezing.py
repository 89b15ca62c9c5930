"""Which layers of a run are fixed to simplex ETFs: from the start on, or once they separate the classes.

Adaptive-ETF (arXiv:2412.00884): a layer whose nearest-class-centre accuracy on training images stays above the
threshold for the patience, counted in evaluations, is fixed from then on, and all layers after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from lsc_engine.common.formatting import grouped
from lsc_engine.config.schema import Model
from lsc_engine.models import etf
from lsc_engine.runs.metrics.reader import FIXED
from lsc_engine.training.schedule import derive_seed


class EtfFreezer:
    """Fixes layers of `network`: here those that are fixed from the start on, in `update` those of Adaptive-ETF."""

    def __init__(self, network: nn.Module, settings: Model, seed: int) -> None:
        self._network, self._seed, self._settings = network, seed, settings
        self._adaptive = settings.etf_layers == "adaptive"
        self._layers = etf.consecutive_linear_layers(network)
        # Consecutive evaluations that found each layer above the threshold.
        self._streaks = [0] * len(self._layers)
        if not self._adaptive:
            self._fix(etf.layers_to_fix(network, settings))

    def _fix(self, names: list[str]) -> None:
        """The frame of each layer is a function of the run's seed and the layer's name."""
        seeds = {name: derive_seed(self._seed, f"etf {name}") for name in names}
        etf.fix_layers(self._network, seeds, self._settings.etf_frame or "canonical")

    def _trained(self) -> int:
        return sum(p.numel() for p in self._network.parameters() if p.requires_grad)

    def update(self, metrics: Mapping[str, float]) -> str | None:
        """Fix the layers that the metrics of an evaluation call for; a sentence if there are any."""
        if not self._adaptive:
            return None
        threshold, patience = self._settings.etf_threshold or 0.0, self._settings.etf_patience or 1
        for number in range(len(self._layers)):
            above = metrics[f"train/ncc_{number + 1}"] > threshold
            self._streaks[number] = self._streaks[number] + 1 if above else 0
        first = next((i for i, streak in enumerate(self._streaks) if streak >= patience), len(self._layers))
        fixed = etf.fixed_layer_names(self._network)
        due = [name for name in self._layers[first:] if name not in fixed]
        if not due:
            return None
        before = self._trained()
        self._fix(due)
        numbers = [self._layers.index(name) + 1 for name in due]
        which = f"layer {numbers[0]} is" if len(due) == 1 else f"layers {numbers[0]} to {numbers[-1]} are"
        often = "once" if patience == 1 else f"{patience} times in a row"
        why = f"layer {first + 1} has separated the classes by their centres above {threshold:g} {often}"
        sizes = f"parameters trained {grouped(before)}, now {grouped(self._trained())}"
        return f"{which} fixed to a simplex ETF from here on: {why}; {sizes}"

    def metrics(self) -> dict[str, float]:
        """The numbers of trained parameters and, for Adaptive-ETF, of fixed layers; empty without ETF layers."""
        if self._settings.etf_layers is None:
            return {}
        values = {"model/parameters": float(self._trained())}
        return values | ({FIXED: float(len(etf.fixed_layer_names(self._network)))} if self._adaptive else {})

    def state_dict(self) -> dict[str, Any]:
        """The fixed layers themselves are in the state of the network."""
        return {"etf_streaks": list(self._streaks)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._streaks = list(state.get("etf_streaks", self._streaks))
