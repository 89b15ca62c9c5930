"""Which layers of a run are fixed to simplex ETFs: from the start on, or once they tell the classes apart.

Adaptive-ETF (arXiv:2412.00884): a layer whose nearest-class-centre accuracy on training images stays above the
threshold for the patience, counted in evaluations, is fixed from then on, and all layers after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import nn

from lsc_engine.common.formatting import grouped
from lsc_engine.config import RunConfig
from lsc_engine.heads import Head
from lsc_engine.models import etf
from lsc_engine.runs.metrics.columns import FIXED
from lsc_engine.training.seeds import derive_seed

TRAINED = "model/parameters"


class Fixing:
    """The fixed layers of `model` and `head`; making it fixes those that are fixed from the start on."""

    def __init__(self, config: RunConfig, model: nn.Module, head: Head) -> None:
        self.modules: dict[str, nn.Module] = {"model": model, "head": head}
        self._seed, self._rule = config.seed, config.model
        self.on = config.model.etf_layers is not None
        self.adaptive = config.model.etf_layers == "adaptive"
        self.row = etf.in_a_row(self.modules)
        # Evaluations in a row that found each layer of the row above the threshold.
        self.streaks = [0] * len(self.row)
        if not self.adaptive:
            self.fix(etf.named_layers(self.modules, config.model))

    def fix(self, names: list[str]) -> None:
        """Fix the layers called `names`; the frame of each is a function of the run's seed and the layer's name."""
        seeds = [derive_seed(self._seed, f"etf {name}") for name in names]
        etf.fix(self.modules, names, frame=self._rule.etf_frame or "canonical", seeds=seeds)

    def parameters(self) -> Iterator[nn.Parameter]:
        """What the optimizer holds."""
        for module in self.modules.values():
            yield from module.parameters()

    def sizes(self) -> dict[str, int]:
        """{"trained", "fixed"}: parameters that are trained, and weights that are not because their layer is fixed."""
        trained = sum(p.numel() for p in self.parameters() if p.requires_grad)
        return {"trained": trained, "fixed": etf.fixed_weights(self.modules)}

    def step(self, values: Mapping[str, float]) -> str:
        """Go by the metrics of an evaluation: fix what is due, and say so; "" where nothing is."""
        if not self.adaptive:
            return ""
        threshold, patience = self._rule.etf_threshold or 0.0, self._rule.etf_patience or 1
        accuracies = [values[f"train/ncc_{number}"] for number in range(1, len(self.row) + 1)]
        self.streaks = [
            streak + 1 if accuracy > threshold else 0 for streak, accuracy in zip(self.streaks, accuracies, strict=True)
        ]
        first = next((i for i, streak in enumerate(self.streaks) if streak >= patience), len(self.row))
        fixed = etf.fixed_names(self.modules)
        due = [name for name in self.row[first:] if name not in fixed]
        if not due:
            return ""
        before = self.sizes()["trained"]
        self.fix(due)
        numbers = [self.row.index(name) + 1 for name in due]
        which = f"layer {numbers[0]} is" if len(due) == 1 else f"layers {numbers[0]} to {numbers[-1]} are"
        often = "once" if patience == 1 else f"{patience} times in a row"
        why = f"layer {first + 1} has told classes apart by their centres above {threshold:g} {often}"
        sizes = f"parameters trained {grouped(before)}, now {grouped(self.sizes()['trained'])}"
        return f"{which} fixed to a simplex ETF from here on: {why}; {sizes}"

    def metrics(self) -> dict[str, float]:
        """How many parameters are trained and, of an adaptive run, how many layers are fixed; none without ETFs."""
        if not self.on:
            return {}
        values = {TRAINED: float(self.sizes()["trained"])}
        return values | ({FIXED: float(len(etf.fixed_names(self.modules)))} if self.adaptive else {})
