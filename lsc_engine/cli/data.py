"""Commands about data and this machine: pack, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lsc_engine.cli.options import DataDir, Json, RunsDir


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command("pack")(pack)
    app.command("doctor")(doctor)


def pack(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="imagenet, cinic10 or folder.", show_default=False)],
    size: Annotated[
        int,
        typer.Option(
            "--size", metavar="PIXELS", min=4, max=1024, help="Height and width in pixels.", show_default=False
        ),
    ],
    path: Annotated[
        Path | None, typer.Option("--path", metavar="DIR", help="The folder of images; required for folder.")
    ] = None,
    data_dir: DataDir = None,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", min=0, help="Processes. Default: one per core.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Pack a data set of image files into one memory-mapped file of bytes.

    Can be interrupted and repeated: it goes on where it was. What is packed already is checked by its hash. Training
    at 64 pixels or less packs on first use by itself.

    Example: lsc-engine pack imagenet --size 32
    """
    from lsc_engine.cli.output import message, print_json
    from lsc_engine.data.folders import pack_dataset

    where = None if path is None else str(path)
    done = pack_dataset(dataset, size, data_dir=data_dir, path=where, say=message, workers=workers)
    rows = [
        {
            "split": manifest.split,
            "file": str(target),
            "images": manifest.images,
            "classes": len(manifest.classes),
            "bytes": manifest.images * manifest.image_bytes,
            "sha256": manifest.sha256,
        }
        for target, manifest in done
    ]
    if as_json:
        print_json({"dataset": dataset, "size": size, "splits": rows})
        return
    for row in rows:
        message(f"{row['split']}: {row['images']:,} images, {row['bytes']:,} bytes, sha256 {row['sha256']}")
        print(row["file"])


def doctor(
    runs_dir: RunsDir = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Check this machine: Python, torch, GPUs, data sets, disk, and whether runs survive logout.

    Nothing is changed or downloaded, and no check waits longer than a minute. Ends with 1 where training cannot work.

    Example: lsc-engine doctor
    """
    from lsc_engine.cli.doctor import examine, lines
    from lsc_engine.cli.output import print_json, printable

    found = examine(runs_dir, data_dir)
    if as_json:
        print_json(found)
    else:
        for line in lines(found):
            print(printable(line))
    if not found["ok"]:
        raise typer.Exit(1)
