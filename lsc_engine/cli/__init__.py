"""The command line `lsc-engine`: a thin layer of typer over the engine, one file per command group.

Only typer is imported at start; every command imports what it needs when it runs, so `--help` stays fast.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import Annotated

import typer

from lsc_engine import __version__
from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.common.streams import open_streams
from lsc_engine.common.userpaths import serve_libraries

# One module per group; each has `register(app)`.
GROUPS = ("train", "runs", "presets", "vectors", "data", "bench", "report", "export", "predict")


def build_app() -> typer.Typer:
    """The typer application with every command registered."""
    app = typer.Typer(
        name="lsc-engine",
        help="Train networks on predefined vector systems, from a preset to a run folder.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for group in GROUPS:
        importlib.import_module(f"lsc_engine.cli.{group}").register(app)
    return app


def _print_version(requested: bool) -> None:
    if requested:
        print(f"lsc-engine {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Train networks on predefined vector systems, from a preset to a run folder."""


def _end_on_signals() -> None:
    """Until training handles signals there is nothing to save: SIGTERM and SIGHUP end the command with their code, and
    SIGUSR1, which requests a checkpoint, does nothing."""

    def end(number: int, frame: object) -> None:
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    # A reader that closes the pipe (`| head`) ends the command quietly.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def main() -> None:
    """Run the command line and turn errors into the exit codes that output.py lists."""
    open_streams()
    serve_libraries()
    from lsc_engine.cli.output import abandon_stdout, is_stdout_error, print_error

    # Nor do the Pythons that libraries start (data workers, compilers) import from the current folder.
    os.environ["PYTHONSAFEPATH"] = "1"
    _end_on_signals()
    try:
        try:
            build_app()()
        finally:
            sys.stdout.flush()
    except OSError as error:
        if not is_stdout_error(error):
            raise
        abandon_stdout(error)
        sys.exit(1)
    except LscError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except UnicodeEncodeError as error:
        # Of a file's name; what is printed is always shown somehow.
        lacks = f"cannot be written in {error.encoding}; set LC_ALL=C.UTF-8"
        print_error(
            UsageError(f'"{error.object}" {"is not UTF-8 text" if error.encoding.startswith("utf") else lacks}')
        )
        sys.exit(UsageError.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
