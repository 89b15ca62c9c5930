"""`python -m lsc_engine.training.run_worker FOLDER`: one queued run of a study in a process of its own.

studies/runner.py starts one per GPU and passes the run folder only.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lsc_engine.common.streams import open_streams
from lsc_engine.common.userpaths import serve_libraries
from lsc_engine.training.signals import Signals


def main() -> int:
    """Train the run and return its exit code: 0, 1, 2, 3, or 128 + the signal that stopped it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs-dir", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--data-path")
    parser.add_argument("--like", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--plugin", type=Path, action="append", default=[])
    arguments = parser.parse_args()
    open_streams()
    serve_libraries()
    with Signals() as signals:
        # torch is imported inside the signal handlers' reach: a stop during the import is not lost.
        from lsc_engine.config.load import load_run_config
        from lsc_engine.plugins import load_plugins
        from lsc_engine.training.devices import pick_device
        from lsc_engine.training.execute import EXIT_CODES, execute

        load_plugins(arguments.plugin)
        config = load_run_config(arguments.folder / "preset.toml")
        if arguments.data_path is not None:
            data = config.data.model_copy(update={"path": arguments.data_path or None})
            config = config.model_copy(update={"data": data})
        state = execute(
            arguments.folder,
            config,
            like=arguments.like,
            runs_dir=arguments.runs_dir,
            device=pick_device(arguments.device),
            data_dir=arguments.data_dir,
            signals=signals,
            echo=False,
        )
        return 128 + signals.stop if signals.stop else EXIT_CODES[state]


if __name__ == "__main__":
    sys.exit(main())
