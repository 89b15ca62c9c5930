"""Which layers of a run are fixed to simplex ETFs: from the start on, or once they tell the classes apart."""

from __future__ import annotations

from torch import nn

from lsc_engine.config import RunConfig
from lsc_engine.heads import Head
from lsc_engine.models import etf
from lsc_engine.training.seeds import derive_seed


class Fixing:
    """The fixed layers of `model` and `head`; making it fixes those that are fixed from the start on."""

    def __init__(self, config: RunConfig, model: nn.Module, head: Head) -> None:
        self.modules: dict[str, nn.Module] = {"model": model, "head": head}
        self._seed, self._frame = config.seed, config.model.etf_frame or "canonical"
        self.fix(etf.named_layers(self.modules, config.model))

    def fix(self, names: list[str]) -> None:
        """Fix the layers called `names`; the frame of each is a function of the run's seed and the layer's name."""
        seeds = [derive_seed(self._seed, f"etf {name}") for name in names]
        etf.fix(self.modules, names, frame=self._frame, seeds=seeds)
