"""Small presets trained on the pretended device; JSON on stdout. `python rehearsal.py FOLDER PRESET[:VARIANT,…] …`"""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import torch
from pretended import NAME, Everywhere, register, waits

from lsc_engine.config.derived import derive
from lsc_engine.config.schema import RunConfig
from lsc_engine.runs.folder.writer import RunWriter, create_run
from lsc_engine.runs.read.run import open_run
from lsc_engine.studies.plan import plan_study
from lsc_engine.training.context import RunContext
from lsc_engine.training.dependencies import load_dependencies
from lsc_engine.training.execute import execute
from lsc_engine.training.job import Job
from lsc_engine.training.signals import Signals
from lsc_engine.training.trainer import Trainer

SHORT = ('train.duration="6 steps"', 'log.every="1 steps"', "eval.images=40", 'checkpoint.every="1000 steps"')
SHORT_TOO = {"lsc-2025/fig6-mini": ('optimizer.schedule="steps"', 'optimizer.milestones=["2 steps"]')}


def waits_in_steps(folder: Path, config: RunConfig, root: Path, device: torch.device) -> list[str]:
    """What waits for the device in two steps between two log lines; the first two, which fill tables, are let be."""
    derived = derive(config)
    with RunWriter.open(folder, device=NAME, total_steps=derived.total_steps, echo=False) as writer:
        needed = load_dependencies(config, folder, root, channels=derived.channels, device=device)
        trainer = Trainer(RunContext(config, derived, writer, Signals(), device, dependencies=needed))
        trainer.model.train()
        batches = trainer.batches.from_step(0)
        for step in range(4):
            if step == 2:
                waits.clear()
            trainer.loss_sum += trainer.train_step(next(batches))
            trainer.step += 1
    return list(waits)


def outcome(folder: Path) -> dict[str, Any]:
    """How a run ended: state, message, losses, last shares of images, and names of metrics that are not finite."""
    run = open_run(folder)
    broken = [name for name in run.metric_names() if not all(math.isfinite(value) for value in run.history(name)[1])]
    loss = run.history("train/loss")[1].tolist() if "train/loss" in run.metric_names() else []
    status = run.status()
    measured = {name: value for name, value in run.last().items() if "accuracy" in name or "inside" in name}
    return {"state": status.state, "message": status.message, "loss": loss, "broken": broken, "measured": measured}


def main(root: Path, names: list[str]) -> None:
    """Each run of each preset, in order, once on the device and once on the CPU."""
    torch.set_num_threads(1)
    torch.cuda.get_device_name = lambda device=None: NAME
    device = register()
    found: dict[str, Any] = {}
    for name in names:
        name, _, variants = name.partition(":")
        sets = (*SHORT, *SHORT_TOO.get(name, ()))
        plan = plan_study(name, name=name, seeds=(0,), sets=sets, variants=tuple(filter(None, variants.split(","))))
        for run in plan.runs:
            ends: dict[str, Any] = {}
            for where in (torch.device("cpu"), device):
                runs = root / where.type
                folder = create_run(runs / run.id, run.config, {})
                with Everywhere(), Signals() as signals:
                    execute(Job(folder, runs), run.config, device=where, signals=signals, echo=False)
                ends[where.type] = outcome(folder)
            with Everywhere():
                again = create_run(root / "again" / run.id, run.config, {})
                ends["waits"] = waits_in_steps(again, run.config, root / NAME, device)
            found[run.id] = ends
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
    # Threads of autograd that know a device of Python cannot always be ended in order.
    sys.stdout.flush()
    os._exit(0)
