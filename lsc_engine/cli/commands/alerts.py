"""Messages on runs: alerts."""

from __future__ import annotations

import signal
from typing import Annotated

from lsc_engine.cli.options import Json, command, opt
from lsc_engine.cli.output import message, print_json, table


@command("alerts")
def alerts(
    test: Annotated[bool, opt("--test", None, "Send a message to each target.")] = False,
    as_json: Json = False,
) -> None:
    """Where messages on runs go, by ~/.config/lsc/alerts.toml, and whether they arrive. Addresses are not shown.

    Example: lsc-engine alerts --test
    """
    import typer

    from lsc_engine.common.errors import UsageError
    from lsc_engine.common.userpaths import home_path
    from lsc_engine.config.alerts import KINDS, alerts_file, load_alerts
    from lsc_engine.runs.alerts import Message, deliver_to_all

    path, settings = home_path(alerts_file()), load_alerts()
    if settings is None:
        raise UsageError(
            f"{path}: there is no such file; it holds tables such as [ntfy] with a url: {', '.join(KINDS)}"
        )
    targets = settings.targets
    if test:
        # A server that closes its connection early must not end this process.
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    sent = deliver_to_all(targets, Message("test", "lsc-engine", "this is a test")) if test else {}
    problems = {name: failure.why for name, failure in sent.items() if failure is not None}
    if as_json:
        rows = [
            {"name": name, "kind": target.kind, "on": target.on}
            | {"delivered": name not in problems if test else None, "problem": problems.get(name)}
            for name, target in targets.items()
        ]
        print_json({"file": path, "most_per_hour": settings.most_per_hour, "targets": rows})
    elif targets:
        lines = [
            [name, ", ".join(target.on), *[problems.get(name, "delivered")] * test] for name, target in targets.items()
        ]
        print(table(["TARGET", "ON", *["TEST"] * test], lines))
    if not targets:
        message(f"{path} names no target")
    if problems:
        raise typer.Exit(1)
