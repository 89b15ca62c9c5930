"""Commands about data, this machine and messages: pack, doctor, alerts, bench."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lsc_engine.cli.options import DataDir, ImageDir, Json, RunsDir, arg, command, num, opt
from lsc_engine.cli.output import answer, message, print_json, printable, table
from lsc_engine.common.errors import UsageError
from lsc_engine.common.formatting import counted

if TYPE_CHECKING:
    from lsc_engine.bench import Result


@command("pack")
def pack(
    dataset: Annotated[str, arg("DATASET", "imagenet, cinic10 or folder.", show_default=False)],
    size: Annotated[int, num("--size", "PIXELS", "Height and width in pixels.", show_default=False)],
    path: ImageDir = None,
    data_dir: DataDir = None,
    workers: Annotated[int | None, num("--workers", "N", "Processes. Default: one per core.", min=0)] = None,
    as_json: Json = False,
) -> None:
    """Pack a data set of image files into one memory-mapped file of bytes.

    Can be interrupted and repeated: it goes on where it was. What is packed already is checked by its hash. Training
    at 64 pixels or less packs on first use by itself.

    Example: lsc-engine pack imagenet --size 32
    """
    from lsc_engine.data.datasets.image_folders import pack_dataset

    if not 4 <= size <= 1024:
        raise UsageError(f"--size: {size} is not a size in pixels, 4 to 1024")
    done = pack_dataset(dataset, size, data_dir=data_dir, path=path, say=message, workers=workers)
    rows: list[dict[str, Any]] = [
        {
            "split": one.split,
            "file": str(target),
            "images": one.images,
            "classes": len(one.classes),
            "bytes": one.images * one.image_bytes,
            "sha256": one.sha256,
        }
        for target, one in done
    ]
    if as_json:
        print_json({"dataset": dataset, "size": size, "splits": rows})
        return
    for row in rows:
        amount = f"{counted(row['images'], 'image')}, {counted(row['bytes'], 'byte')}"
        message(f"{row['split']}: {amount}, sha256 {row['sha256']}")
        print(row["file"])


@command("doctor")
def doctor(runs_dir: RunsDir = None, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Check this machine: Python, torch, GPUs, data sets, disk, and whether runs survive logout.

    Nothing is changed or downloaded, and no check waits longer than a minute. Ends with 1 where training cannot work.

    Example: lsc-engine doctor
    """
    from lsc_engine.cli.doctor import examine, lines

    found = examine(runs_dir, data_dir)
    answer(as_json, found, lambda: printable("\n".join(lines(found))))
    if not found["ok"]:
        raise typer.Exit(1)


@command("alerts")
def alerts(
    test: Annotated[bool, opt("--test", None, "Send a message to each target.")] = False, as_json: Json = False
) -> None:
    """Where messages on runs go, by ~/.config/lsc/alerts.toml, and whether they arrive. Addresses are not shown.

    Example: lsc-engine alerts --test
    """
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
    from lsc_engine.bench import NAMES, check_names, command_line, run, shown
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
    check_names(*names)
    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"--out: {out} is a file; a folder is needed")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)

    def report(name: str, row: dict[str, Any]) -> None:
        message(f"{name}: " + ", ".join(f"{key} {shown(value)}".strip() for key, value in row.items()))
        if out is not None:
            with open(out / f"{name}.jsonl", "a", encoding="utf-8") as lines:
                lines.write(json.dumps(row) + "\n")

    documents = []
    for name in names:
        if len(names) > 1:
            message(f"{name}: {NAMES[name]}")
        result = run(name, quick=quick, device=device, on_row=partial(report, name), **arguments)
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
