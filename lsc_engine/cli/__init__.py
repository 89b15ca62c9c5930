"""The command line `lsc-engine`: a thin layer of typer over the engine. Only typer is imported at start; every command
imports what it needs when it runs, so `--help` stays fast."""

from __future__ import annotations

import importlib
import os
import pkgutil
import signal
import sys
from typing import TYPE_CHECKING

from lsc_engine.common.errors import FULL, LscError, UsageError
from lsc_engine.common.streams import open_streams
from lsc_engine.common.userpaths import serve_libraries

if TYPE_CHECKING:
    import typer

# The order of their commands in --help; other files of the folder follow.
_FIRST = ("train", "runs", "presets", "vectors", "data", "report", "predict")


def build_app() -> typer.Typer:
    """The typer application with the commands of every file in the folder `commands`."""
    from lsc_engine.cli import commands
    from lsc_engine.cli.options import app

    found = {module.name for module in pkgutil.iter_modules(commands.__path__)}
    for name in [*_FIRST, *sorted(found.difference(_FIRST))]:
        importlib.import_module(f"{commands.__name__}.{name}")
    return app


def main() -> None:
    """Run the command line and turn errors into the exit codes that output.py lists."""
    open_streams()
    serve_libraries()
    from lsc_engine.cli.output import abandon_stdout, is_stdout_error, print_error

    # Nor do the Pythons that libraries start (data workers, compilers) import from the current folder.
    os.environ["PYTHONSAFEPATH"] = "1"
    # Until training handles signals there is nothing to save: SIGTERM and SIGHUP end the command with their code, and
    # SIGUSR1, which requests a checkpoint, does nothing.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    signal.signal(signal.SIGUSR1, lambda _number, _frame: None)
    # A reader that closes the pipe (`| head`) ends the command quietly.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
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
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name not in FULL:
            raise
        lack = f"lsc-engine {sys.argv[1]} needs {name}, which this light installation lacks"
        print_error(UsageError(f"{lack}; install all of lsc, in its folder, with: pip install ."))
        sys.exit(UsageError.exit_code)
    except UnicodeEncodeError as error:
        # Of a file's name; what is printed is always shown somehow.
        lacks = f"cannot be written in {error.encoding}; set LC_ALL=C.UTF-8"
        why = "is not UTF-8 text" if error.encoding.startswith("utf") else lacks
        print_error(UsageError(f'"{error.object}" {why}'))
        sys.exit(UsageError.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
