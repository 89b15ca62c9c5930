"""`python -m lsc_engine.training.run_worker JOB`: one queued run of a study in a process of its own.

studies/runner.py starts one per GPU; or torchrun or srun start several for one run.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from lsc_engine.common.streams import open_streams
from lsc_engine.common.userpaths import serve_libraries
from lsc_engine.runs.folder.layout import PRESET
from lsc_engine.training.job import Job
from lsc_engine.training.signals import Signals

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

# OMP_NUM_THREADS of the process that started torchrun, "" where it was not set.
THREADS = "LSC_OMP_NUM_THREADS"


def main(job: Job, store: Store | None = None) -> int:
    """Train the run and return its exit code: 0, 1, 2, 3, or 128 + the signal that stopped it. `store`: as of
    Mesh.join."""
    open_streams()
    serve_libraries()
    if (threads := os.environ.pop(THREADS, None)) is not None:
        # torchrun allows each process one thread where nothing is set.
        os.environ["OMP_NUM_THREADS"] = threads
        if not threads:
            del os.environ["OMP_NUM_THREADS"]
    rank = int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", 0)))
    with Signals(ignored=rank > 0) as signals:
        # torch is imported inside the signal handlers' reach: a stop during the import is not lost.
        import torch

        from lsc_engine.config.load import load_run_config
        from lsc_engine.config.values import listed
        from lsc_engine.plugins import load_plugins
        from lsc_engine.training.devices import pick_device
        from lsc_engine.training.execute import EXIT_CODES, execute
        from lsc_engine.training.mesh import Mesh, PeerLostError

        load_plugins(job.plugins)
        changes = {key: listed(value) for key, value in job.changes.items()}
        config = load_run_config(job.folder / PRESET).with_values(changes)
        device = pick_device(job.device)
        if device.type == "cuda" and (local := os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID"))):
            device = torch.device("cuda", int(local) % torch.cuda.device_count())
        try:
            mesh = Mesh.join(device, store)
            state = execute(job, config, device=device, signals=signals, echo=False, mesh=mesh)
            mesh.leave()
        except PeerLostError:
            # The first process records how the run ended.
            return 0 if rank else 1
        if mesh.size > 1 and device.type == "cpu" and state == "stopped":
            # torchrun reports any other code as a failure of its own; the run's status says how it ended.
            return 0
        return 128 + signals.stop if signals.stop else EXIT_CODES[state]


if __name__ == "__main__":
    sys.exit(main(Job.from_json(sys.argv[1])))
