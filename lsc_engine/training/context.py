"""What the parts of a training share: the settings, the device, the open run folder, and how a stop is noticed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lsc_engine.config.derived import Derived
from lsc_engine.config.schema import RunConfig
from lsc_engine.runs.alerts import Alerts
from lsc_engine.runs.folder.machine import MachineRecorder
from lsc_engine.runs.folder.writer import RunWriter
from lsc_engine.training.dependencies import RunDependencies
from lsc_engine.training.devices import autocast_dtype
from lsc_engine.training.mesh import ALONE, Mesh
from lsc_engine.training.signals import Interrupted, Signals

# Workers that are lost again and again without a batch, or an evaluation, between are not restarted any more.
MOST_WORKER_FAILURES = 3


# Called with the id of a run, its step, the number of steps, its newest metrics and the seconds left.
Progress = Callable[[str, int, int, dict[str, float], float | None], None]


class PeerWriter:
    """What a process that does not write its run's folder has in place of a RunWriter: every call does nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def source(self) -> dict[str, Any]:
        return {}

    def requests(self) -> set[str]:
        return set()

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **options: None


@dataclass
class RunContext:
    """`config` may name another place of the images than the preset in the run folder; `same_images_as`: the folder of
    a run whose images they must be. `machine` samples the machine meanwhile and `alerts` sends messages, in
    the process that writes the folder."""

    config: RunConfig
    derived: Derived
    writer: RunWriter | PeerWriter
    signals: Signals
    device: torch.device
    data_dir: Path | None = None
    dependencies: RunDependencies = field(default_factory=RunDependencies)
    progress: Progress | None = None
    same_images_as: Path | None = None
    machine: MachineRecorder | None = None
    alerts: Alerts | None = None
    mesh: Mesh = ALONE
    eta: float | None = None
    """Seconds to the last step, of training alone."""

    @property
    def folder(self) -> Path:
        return self.writer.folder

    @property
    def dtype(self) -> torch.dtype | None:
        """The autocast type, None for plain float32."""
        return autocast_dtype(self.config.train.precision, self.device)

    def wait(self) -> None:
        """Called while images are read, which may take long. Interrupted if a stop was requested."""
        self.signals.check()
        if "stop" in self.writer.requests():
            raise Interrupted
        self.writer.alive()

    def report(self, text: str) -> None:
        """A message on the reading of images. Interrupted if a stop was requested."""
        self.writer.message(text)
        self.wait()

    def keep_alive(self, step: int) -> None:
        """A heartbeat between two batches of an evaluation. Interrupted after a stop signal."""
        self.signals.check()
        self.writer.heartbeat(step, self.eta)
