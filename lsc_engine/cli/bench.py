"""`bench`: the benchmarks behind every statement about speed and memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lsc_engine.cli.options import Json
from lsc_engine.common.errors import UsageError

if TYPE_CHECKING:
    from lsc_engine.bench import Result


def register(app: typer.Typer) -> None:
    """Add this group's command."""
    app.command("bench")(bench)


def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Benchmarks, or all; without one they are listed.", show_default=False),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Tiny sizes: shows that it works, figures mean nothing.")
    ] = False,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An argument of the benchmark: batch=512. May be repeated."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Also write DIR/NAME.md, a Markdown page.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure what the project says of its speed: each figure beside its bar, with a verdict.

    Both sides of a comparison run alternately in one process and must give the same; a figure is the median.

    Example: lsc-engine bench decode --out results
    """
    from lsc_engine.bench import NAMES, run
    from lsc_engine.cli.output import message, print_json

    if not names:
        _list(as_json)
        return
    arguments = _arguments(sets or [])
    names = list(NAMES) if "all" in names else names
    if len(names) > 1 and arguments:
        raise UsageError("bench: --set belongs to one benchmark; run them one by one")
    for name in names:
        if name not in NAMES:
            run(name)
    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"--out: {out} is a file; a folder is needed")
    results = []
    for name in names:
        if len(names) > 1:
            message(f"{name}: {NAMES[name]}")
        results.append(_run(name, quick, arguments, out))
        if not as_json:
            _print(results[-1])
    if as_json:
        documents = [result.document() for result in results]
        print_json(documents[0] if len(documents) == 1 else documents)


def _run(name: str, quick: bool, arguments: dict[str, Any], out: Path | None) -> Result:
    """The result of a benchmark, written into the folder `out`."""
    from dataclasses import replace

    from lsc_engine.bench import command_line, run
    from lsc_engine.cli.output import message
    from lsc_engine.common.safe_io import write_whole

    result = replace(run(name, quick=quick, **arguments), command=command_line(name, quick, arguments))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        files = {f"{name}.md": result.markdown(), **result.files}
        for file, text in files.items():
            write_whole(out / file, text)
        message(f"written: {', '.join(str(out / file) for file in files)}")
    return result


def _list(as_json: bool) -> None:
    from lsc_engine.bench import NAMES
    from lsc_engine.cli.output import print_json, table

    if as_json:
        print_json([{"name": name, "measures": what} for name, what in NAMES.items()])
    else:
        print(table(["benchmark", "measures"], [[name, what] for name, what in NAMES.items()]))


def _print(result: Result) -> None:
    from lsc_engine.bench import shown
    from lsc_engine.cli.output import table

    for part in (result.checks_table(), *result.tables):
        if part.title:
            print(part.title)
        if part.rows:
            head = list(part.rows[0])
            numbers = "".join("r" if isinstance(part.rows[0][key], int | float) else "l" for key in head)
            print(table(head, [[shown(row.get(key)) for key in head] for row in part.rows], numbers))
        print()
    for note in result.notes:
        print(note)


def _arguments(sets: Sequence[str]) -> dict[str, Any]:
    """key=value as Python values: numbers and TOML, else text."""
    from lsc_engine.config.typed import parse_value

    found: dict[str, Any] = {}
    for text in sets:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f'--set: "{text}" is not key=value')
        found[key.strip()] = parse_value(value)
    return found
