"""The command that writes a run into the logs of other tools: mirror."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

from lsc_engine.cli.options import Json, OneRun, RunsDirs, command, opt
from lsc_engine.cli.output import message, print_json
from lsc_engine.common.errors import UsageError, did_you_mean


@command("mirror")
def mirror(
    run: OneRun,
    to: Annotated[
        list[str] | None, opt("--to", "TOOL", "Only this tool; may be repeated. Default: log.also of the run.")
    ] = None,
    runs_dir: RunsDirs = None,
    as_json: Json = False,
) -> None:
    """Write a run for tensorboard, wandb, mlflow or trackio, until it has ended; goes on where it stopped.

    Example: lsc-engine mirror n_min/seed-0 --to tensorboard
    """
    from typing import get_args

    from lsc_engine.common.settings import MIRRORED, lookup
    from lsc_engine.config.schema import AlsoLogged
    from lsc_engine.mirrors.supervise import check_tools, supervise
    from lsc_engine.runs.read.run import open_run

    found = open_run(run, runs_dir)
    tools, known = to or lookup(found.config, MIRRORED) or [], get_args(AlsoLogged)
    for tool in tools:
        if tool not in known:
            raise UsageError(f"--to {tool}: {did_you_mean(str(tool), known)}")
    if not tools:
        raise UsageError(f"{found.id} has no log.also; give --to: {', '.join(known)}")
    check_tools(tools)
    states = supervise(found, list(dict.fromkeys(tools)))
    if as_json:
        print_json([asdict(state) for state in states])
    for state in states:
        message(f"{found.id}: {state}")
    sys.exit(1 if any(state.behind or state.error for state in states) else 0)
