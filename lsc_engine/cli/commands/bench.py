"""`bench`: the benchmarks behind every statement about speed and memory."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from lsc_engine.cli.options import Json, arg, command, opt
from lsc_engine.cli.output import answer, message, table
from lsc_engine.common.errors import UsageError

if TYPE_CHECKING:
    from lsc_engine.bench import Result


@command("bench")
def bench(
    names: Annotated[list[str] | None, arg("NAME", "Benchmarks, or all. Default: a list.", show_default=False)] = None,
    quick: Annotated[bool, opt("--quick", None, "Tiny sizes: shows that it works, figures mean nothing.")] = False,
    sets: Annotated[list[str] | None, opt("--set", "KEY=VALUE", "An argument: batch=512. May be repeated.")] = None,
    device: Annotated[str | None, opt("--device", None, "cpu, cuda or cuda:1. Default: the benchmark's.")] = None,
    out: Annotated[Path | None, opt("--out", "DIR", "Also write DIR/NAME.md and, row by row, DIR/NAME.jsonl.")] = None,
    as_json: Json = False,
) -> None:
    """Measure what the project says of its speed: each figure beside its bar, with a verdict.

    Both sides of a comparison run alternately in one process and must give the same; a figure is the median. Rows are
    printed and written as they come.

    Example: lsc-engine bench decode --out results
    """
    from lsc_engine.bench import NAMES, check_name, command_line, run
    from lsc_engine.common.safe_io import write_whole
    from lsc_engine.config.typed import parse_value

    if not names:
        listed = [{"name": name, "measures": what} for name, what in NAMES.items()]
        answer(as_json, listed, lambda: table(["benchmark", "measures"], list(NAMES.items())))
        return
    arguments: dict[str, Any] = {}
    for text in sets or ():
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f'--set: "{text}" is not key=value')
        arguments[key.strip()] = parse_value(value)
    names = list(NAMES) if "all" in names else names
    if len(names) > 1 and arguments:
        raise UsageError("bench: --set belongs to one benchmark; run them one by one")
    for name in names:
        check_name(name)
    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"--out: {out} is a file; a folder is needed")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    documents = []
    for name in names:
        if len(names) > 1:
            message(f"{name}: {NAMES[name]}")
        result = run(name, quick=quick, device=device, on_row=partial(_row, name, out), **arguments)
        result = replace(result, command=command_line(name, quick, device, arguments))
        if out is not None:
            files = {f"{result.name}.md": result.markdown(), **result.files}
            for file, text in files.items():
                write_whole(out / file, text)
            message(f"written: {', '.join(str(out / file) for file in files)}")
        documents.append(result.document())
        if not as_json:
            _print(result)
    answer(as_json, documents[0] if len(documents) == 1 else documents)


def _row(name: str, out: Path | None, row: dict[str, Any]) -> None:
    from lsc_engine.bench import shown

    message(f"{name}: " + ", ".join(f"{key} {shown(value)}".strip() for key, value in row.items()))
    if out is not None:
        with open(out / f"{name}.jsonl", "a", encoding="utf-8") as lines:
            lines.write(json.dumps(row) + "\n")


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
