"""Commands about data and this machine: pack, doctor."""

from __future__ import annotations

from typing import Annotated

import typer

from lsc_engine.cli.options import DataDir, ImageDir, Json, RunsDir, arg, command, opt
from lsc_engine.cli.output import message, print_json, printable


@command("pack")
def pack(
    dataset: Annotated[str, arg("DATASET", "imagenet, cinic10 or folder.", show_default=False)],
    size: Annotated[int, opt("--size", "PIXELS", "Height and width in pixels.", min=4, max=1024, show_default=False)],
    path: ImageDir = None,
    data_dir: DataDir = None,
    workers: Annotated[int | None, opt("--workers", "N", "Processes. Default: one per core.", min=0)] = None,
    as_json: Json = False,
) -> None:
    """Pack a data set of image files into one memory-mapped file of bytes.

    Can be interrupted and repeated: it goes on where it was. What is packed already is checked by its hash. Training
    at 64 pixels or less packs on first use by itself.

    Example: lsc-engine pack imagenet --size 32
    """
    from lsc_engine.data.folders import pack_dataset

    done = pack_dataset(dataset, size, data_dir=data_dir, path=path, say=message, workers=workers)
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


@command("doctor")
def doctor(runs_dir: RunsDir = None, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Check this machine: Python, torch, GPUs, data sets, disk, and whether runs survive logout.

    Nothing is changed or downloaded, and no check waits longer than a minute. Ends with 1 where training cannot work.

    Example: lsc-engine doctor
    """
    from lsc_engine.cli.doctor import examine, lines

    found = examine(runs_dir, data_dir)
    if as_json:
        print_json(found)
    else:
        for line in lines(found):
            print(printable(line))
    if not found["ok"]:
        raise typer.Exit(1)
