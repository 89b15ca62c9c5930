"""Weights & Biases, offline: `wandb sync` uploads the folder. A file of wandb can neither be continued nor changed: a
new beginning, and a run that goes back, write it anew under the same run id."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb

from lsc_engine.mirrors.base import Facts, Mirror, Row


class Tool(Mirror):
    """An offline run of wandb."""

    def __init__(self, run: Facts, folder: Path, state: Mapping[str, Any]) -> None:
        super().__init__(run, folder, state)
        self._begin()

    def _begin(self) -> None:
        for path in self.folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name not in self.OURS:
                path.unlink()
        # The machine that is measured, and the code, would be those of this process.
        settings = wandb.Settings(
            mode="offline", root_dir=str(self.folder.parent), console="off", silent=True, disable_git=True,
            disable_code=True, save_code=False, x_disable_stats=True, x_disable_meta=True, x_save_requirements=False,
            x_disable_machine_info=True,
        )  # fmt: skip
        self._run = wandb.init(
            settings=settings, project=self.run.project, id=self.run.unique, name=self.run.name,
            group=self.run.name.split("/")[0], config={**self.run.settings, "run": {"id": self.run.id}},
        )  # fmt: skip

    def write(self, rows: Sequence[Row]) -> None:
        """Rows of one step become one row there."""
        for row in rows:
            self._run.log({**row.values, "_timestamp": self.run.began + row.seconds}, step=row.step)

    def go_back(self, step: int) -> int:
        self._run.finish()
        self._begin()
        return 0

    def end(self, state: str, exit_code: int) -> None:
        self._run.finish(exit_code=exit_code)
