"""`python -m lsc_engine.training.run_worker FOLDER`: one queued run of a study in a process of its own.

studies/runner.py starts one per GPU and passes the run folder only; or torchrun or srun start several for one run.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lsc_engine.common.streams import open_streams
from lsc_engine.common.userpaths import serve_libraries
from lsc_engine.training.signals import Signals

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

# OMP_NUM_THREADS of the process that started torchrun, "" where it was not set.
THREADS = "LSC_OMP_NUM_THREADS"


def main(words: Sequence[str] | None = None, store: Store | None = None) -> int:
    """Train the run and return its exit code: 0, 1, 2, 3, or 128 + the signal that stopped it. `words`: arguments other
    than those of this process; `store`: as of Mesh.join."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs-dir", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--data-path")
    parser.add_argument("--also")
    parser.add_argument("--like", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--plugin", type=Path, action="append", default=[])
    arguments = parser.parse_args(words)
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
        from lsc_engine.plugins import load_plugins
        from lsc_engine.training.devices import pick_device
        from lsc_engine.training.execute import EXIT_CODES, execute
        from lsc_engine.training.mesh import Mesh, PeerLostError

        load_plugins(arguments.plugin)
        config = load_run_config(arguments.folder / "preset.toml")
        if arguments.also is not None:
            log = config.log.model_copy(update={"also": tuple(filter(None, arguments.also.split(","))) or None})
            config = config.model_copy(update={"log": log})
        if arguments.data_path is not None:
            data = config.data.model_copy(update={"path": arguments.data_path or None})
            config = config.model_copy(update={"data": data})
        device = pick_device(arguments.device)
        if device.type == "cuda" and (local := os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID"))):
            device = torch.device("cuda", int(local) % torch.cuda.device_count())
        try:
            mesh = Mesh.join(device, store)
            state = execute(
                arguments.folder,
                config,
                like=arguments.like,
                runs_dir=arguments.runs_dir,
                device=device,
                data_dir=arguments.data_dir,
                signals=signals,
                echo=False,
                mesh=mesh,
            )
            mesh.leave()
        except PeerLostError:
            # The first process records how the run ended.
            return 0 if rank else 1
        if mesh.size > 1 and device.type == "cpu" and state == "stopped":
            # torchrun reports any other code as a failure of its own; the run's status says how it ended.
            return 0
        return 128 + signals.stop if signals.stop else EXIT_CODES[state]


if __name__ == "__main__":
    sys.exit(main())
