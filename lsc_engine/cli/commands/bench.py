"""`bench`: the benchmarks behind every statement about speed and memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from lsc_engine.cli.options import Json, arg, command, opt
from lsc_engine.cli.output import message, print_json, table
from lsc_engine.common.errors import UsageError

if TYPE_CHECKING:
    from lsc_engine.bench import Result


@command("bench")
def bench(
    names: Annotated[
        list[str] | None, arg("NAME", "Benchmarks, or all; without one they are listed.", show_default=False)
    ] = None,
    quick: Annotated[bool, opt("--quick", None, "Tiny sizes: shows that it works, figures mean nothing.")] = False,
    sets: Annotated[
        list[str] | None, opt("--set", "KEY=VALUE", "An argument of the benchmark: batch=512. May be repeated.")
    ] = None,
    out: Annotated[Path | None, opt("--out", "DIR", "Also write DIR/NAME.md, a Markdown page.")] = None,
    as_json: Json = False,
) -> None:
    """Measure what the project says of its speed: each figure beside its bar, with a verdict.

    Both sides of a comparison run alternately in one process and must give the same; a figure is the median.

    Example: lsc-engine bench decode --out results
    """
    from lsc_engine.bench import NAMES, check_name, command_line, run

    if not names:
        _list(NAMES, as_json)
        return
    arguments = _arguments(sets or [])
    names = list(NAMES) if "all" in names else names
    if len(names) > 1 and arguments:
        raise UsageError("bench: --set belongs to one benchmark; run them one by one")
    for name in names:
        check_name(name)
    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"--out: {out} is a file; a folder is needed")
    documents = []
    for name in names:
        if len(names) > 1:
            message(f"{name}: {NAMES[name]}")
        result = replace(run(name, quick=quick, **arguments), command=command_line(name, quick, arguments))
        if out is not None:
            _write(result, out)
        documents.append(result.document())
        if not as_json:
            _print(result)
    if as_json:
        print_json(documents[0] if len(documents) == 1 else documents)


def _list(known: dict[str, str], as_json: bool) -> None:
    if as_json:
        print_json([{"name": name, "measures": what} for name, what in known.items()])
    else:
        print(table(["benchmark", "measures"], list(known.items())))


def _write(result: Result, out: Path) -> None:
    from lsc_engine.common.safe_io import write_whole

    out.mkdir(parents=True, exist_ok=True)
    files = {f"{result.name}.md": result.markdown(), **result.files}
    for file, text in files.items():
        write_whole(out / file, text)
    message(f"written: {', '.join(str(out / file) for file in files)}")


def _print(result: Result) -> None:
    from lsc_engine.bench import shown

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


def _arguments(sets: list[str]) -> dict[str, Any]:
    """key=value as Python values: numbers and TOML, else text."""
    from lsc_engine.config.typed import parse_value

    found: dict[str, Any] = {}
    for text in sets:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f'--set: "{text}" is not key=value')
        found[key.strip()] = parse_value(value)
    return found
