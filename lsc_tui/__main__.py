"""`lsc-tui [--runs-dir DIR]… [--demo] [--ascii] [--once] [--keys] [--mouse] [--theme NAME] [--plugin FILE.py]…
[--serve [PORT]]`"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import NoReturn

from lsc_engine import __version__
from lsc_engine.common.streams import is_terminal, open_streams, shows_unicode
from lsc_engine.common.userpaths import config_folder, serve_libraries


def parser() -> argparse.ArgumentParser:
    """The command line of the viewer."""
    out = argparse.ArgumentParser(
        prog="lsc-tui",
        description="Set up, start, watch and compare runs in the terminal. Leaving it touches no run.",
        epilog="example: lsc-tui --runs-dir ~/runs --runs-dir /shared/anna/runs. Everything is done by keys (? lists "
        "them); the mouse is left to the terminal, so that text is selected as anywhere, unless --mouse is given.",
    )
    add, instead = out.add_argument, out.add_mutually_exclusive_group()
    runs = "runs folder, may be given several times; default $LSC_RUNS, else ./runs"
    add("--runs-dir", action="append", default=[], metavar="DIR", help=runs)
    add("--demo", action="store_true", help="look at bundled finished runs: needs no data and no GPU")
    plain = "no character outside ASCII; the default on the Linux console and without UTF-8"
    add("--ascii", action="store_true", help=plain)
    add("--mouse", action="store_true", help="clicks and the wheel act too (or mouse = true in keys.toml)")
    instead.add_argument("--once", action="store_true", help="print one frame of Runs and end")
    served = "in a browser on this machine: prints the address (default port 8000, 0 takes a free one)"
    instead.add_argument("--serve", nargs="?", const=8000, type=int, metavar="PORT", help=served)
    instead.add_argument("--keys", action="store_true", help="print the keys in use, as a keys.toml to change, and end")
    plugin = "own models and losses for New run: known here by name, run by what is launched"
    add("--plugin", action="append", default=[], metavar="FILE.py", type=Path, help=plugin)
    add("--version", action="version", version=f"lsc-tui {__version__}")
    themes = "lsc-dark, lsc-light, lsc-contrast, lsc-ansi-dark or lsc-ansi-light; the last two by themselves where "
    add("--theme", help=f"{themes}the terminal has 16 colours")
    return out


def main(argv: list[str] | None = None) -> None:
    """Start the viewer."""
    open_streams()
    serve_libraries()
    options = parser().parse_args(argv)
    if options.keys:
        sys.exit(print_keys(config_folder() / "keys.toml"))
    from lsc_engine.common.errors import UsageError
    from lsc_engine.plugins import look_only
    from lsc_engine.runs.folder.layout import runs_dirs

    # What is started from here imports nothing from the current folder.
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        look_only(options.plugin)
        folders = runs_dirs(options.runs_dir)
    except UsageError as error:
        _end(2, str(error))
    if options.serve is not None:
        if importlib.util.find_spec("textual_serve") is None:
            install = "pip install 'lsc[serve]', or pip install textual-serve"
            _end(2, f"--serve needs textual-serve, which is not installed: {install}")
        from lsc_tui.keymap import Keymap
        from lsc_tui.serve import serve

        sys.exit(serve(options, mouse=options.mouse or Keymap.load(config_folder() / "keys.toml")[0].mouse))
    if options.demo:
        from lsc_tui.demo import demo_folder, remove_when_ended

        found = demo_folder()
        if found is None:
            _end(1, "this build carries no example runs")
        remove_when_ended(found.parent)
        folders = [found]
    sys.exit(start(folders, options))


def _end(code: int, text: str) -> NoReturn:
    print(f"lsc-tui: {text}", file=sys.stderr)
    sys.exit(code)


def print_keys(path: Path) -> int:
    """The keymap in use as TOML, what is wrong with the user's own file on stderr; the exit code."""
    from lsc_tui.keymap import Keymap

    keymap, fault = Keymap.load(path)
    try:
        print(f"# {path}\n{keymap.as_toml()}", flush=True)
    except BrokenPipeError:
        # Whoever read the first lines has what was wanted; nothing more is written at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if fault:
        print(f"lsc-tui: {fault}", file=sys.stderr)
    return 2 if fault else 0


def start(folders: list[Path], options: argparse.Namespace) -> int:
    """Run the application; the exit code."""
    once, theme, demo = options.once, options.theme, options.demo
    # With another driver Textual draws elsewhere: in a tab of a browser.
    drawn_here = not once and not os.environ.get("TEXTUAL_DRIVER")
    if drawn_here and not all(map(is_terminal, (sys.stdin, sys.stdout, sys.stderr))):
        print("lsc-tui needs a terminal; --once prints one frame, lsc-engine list and show print text", file=sys.stderr)
        return 2
    if not demo:
        # A lost connection ends the viewer at once, also where a wrapper had SIGHUP ignored.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    # A key waits at most this long for the interpreter while the reading thread computes.
    sys.setswitchinterval(0.001)
    if not once:
        # Nothing that is loaded on the way to the first frame is garbage; the application collects from then on.
        gc.disable()
    from lsc_tui.app import LscApp
    from lsc_tui.data.ui_state import UiState
    from lsc_tui.theme import THEMES, ascii_only, few_colours

    if theme is not None and theme not in THEMES:
        _end(2, f"no theme {theme!r}: {', '.join(THEMES)}")
    app = LscApp(
        folders,
        ascii=options.ascii or not shows_unicode(sys.stdout) or ascii_only(os.environ),
        theme=theme,
        demo=demo,
        # Only ./runs, named by nobody, may not be there yet.
        made_later=not options.runs_dir and not os.environ.get("LSC_RUNS"),
        plugins=options.plugin,
        few_colours=few_colours(os.environ),
    )
    if demo:
        # What is remembered of the examples goes with them.
        app.ui = UiState(folders, folders[0].parent / "state")
    if once:
        from lsc_tui.render_once import one_frame

        print(one_frame(app, *shutil.get_terminal_size((80, 24))))
        return 0
    app.run(mouse=options.mouse or app.keymap.mouse)
    return app.return_code or 0


if __name__ == "__main__":
    main()
