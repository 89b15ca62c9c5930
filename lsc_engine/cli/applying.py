"""Commands that use a trained run: embed, predict."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lsc_engine.cli.options import At, DataDir, Device, Force, Json, OneRun, Plugins, RunsDirs
from lsc_engine.cli.output import emit_json, printable, say
from lsc_engine.errors import LscError, UsageError, did_you_mean
from lsc_engine.userpaths import user_path

if TYPE_CHECKING:
    from lsc_engine.training.applying import Prediction
    from lsc_engine.training.trained import Trained

Dataset = Annotated[
    str | None, typer.Option("--dataset", metavar="NAME", help="Another data set. Default: the run's own.")
]
DataPath = Annotated[
    str | None, typer.Option("--path", metavar="DIR", help="The folder of the data set; required for folder.")
]
Split = Annotated[str, typer.Option("--split", metavar="SPLIT", help="train or val.")]
Classes = Annotated[
    int | None,
    typer.Option(
        "--classes", min=2, metavar="K", help="The first so many classes of the data set. Default: the run's."
    ),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, metavar="K", help="The first so many images only.")]
_ENDINGS = (".safetensors", ".npy")


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command("embed")(embed)
    app.command("predict")(predict)


def embed(
    run: OneRun,
    split: Split = "train",
    dataset: Dataset = None,
    path: DataPath = None,
    classes: Classes = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="FILE.safetensors or FILE.npy. Default: RUN-SPLIT.safetensors here."
        ),
    ] = None,
    limit: Limit = None,
    at: At = None,
    force: Force = False,
    runs_dir: RunsDirs = None,
    data_dir: DataDir = None,
    device: Device = "auto",
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Embeddings and labels of a data set by a trained run.

    Example: lsc-engine embed demo/V21-min/seed-0 --out digits.safetensors
    """
    from lsc_engine.runs import find_run

    found = find_run(run, runs_dir)
    _check_split(split)
    stem = f"{found.id.replace('/', '-')}-{f'{dataset}-' if dataset else ''}{split}"
    file = _free(user_path(out or f"{stem}.safetensors"), force)
    from lsc_engine.training.applying import Wanted, embed_all, open_images, save_embeddings

    trained = _open(found, device, data_dir, at, plugin)
    source = open_images(trained, Wanted(dataset, split, path, classes), data_dir)
    z, labels = embed_all(trained, source, limit)
    facts = {
        "run": found.id,
        "step": str(trained.step),
        "dataset": dataset or trained.config.data.dataset,
        "split": split,
        "system": str(trained.config.target.system or trained.config.target.method),
    }
    try:
        files = save_embeddings(file, z, labels, facts)
    except OSError as error:
        raise LscError(f"{file} cannot be written: {error.strerror or error}") from None
    if as_json:
        sizes = {"images": len(z), "n": z.shape[1], "embedding_bytes": 4 * z.shape[1], "bytes": z.nbytes}
        emit_json({**facts, "step": trained.step, **sizes, "files": [str(one) for one in files]})
        return
    say(f"{len(z):,} embeddings of {z.shape[1]} float32, {4 * z.shape[1]:,} bytes each, {z.nbytes:,} in all")
    for one in files:
        print(one)


def predict(
    run: OneRun,
    images: Annotated[list[Path] | None, typer.Argument(metavar="IMAGE", help="Image files.")] = None,
    dataset: Dataset = None,
    split: Annotated[str | None, typer.Option("--split", metavar="SPLIT", help="train or val, of a data set.")] = None,
    path: DataPath = None,
    classes: Classes = None,
    out: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write the labels as CSV to this file.")
    ] = None,
    limit: Limit = None,
    at: At = None,
    force: Force = False,
    runs_dir: RunsDirs = None,
    data_dir: DataDir = None,
    device: Device = "auto",
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Labels of image files, or of a data set, with the cosine to the class's vector; or "new class", where the nearest
    vector of the system belongs to none.

    Example: lsc-engine predict demo/V21-min/seed-0 digit.png
    """
    from lsc_engine.runs import find_run

    found = find_run(run, runs_dir)
    whole = dataset is not None or split is not None or path is not None or classes is not None
    if bool(images) == whole:
        raise UsageError("name image files, or a data set by --dataset or --split, one of both")
    _check_split(split or "val")
    absent = [file for file in images or () if not user_path(file).is_file()]
    if absent:
        raise UsageError(*(f"IMAGE {file}: there is no such file" for file in absent))
    file = _free(user_path(out), force, (".csv",)) if out is not None else None
    from lsc_engine.training.applying import class_names

    trained = _open(found, device, data_dir, at, plugin)
    if images:
        rows = _of_files([user_path(one) for one in images], trained)
    else:
        rows = _of_dataset(trained, dataset, split or "val", path, classes, limit, data_dir)
    names = class_names(trained.config, data_dir)
    for row in rows:
        row["name"] = names[row["label"]] if row["label"] is not None and row["label"] < len(names) else None
    _tell(rows, found.id, trained, file, as_json)


def _check_split(split: str) -> None:
    if split not in ("train", "val"):
        raise UsageError(f"--split {split}: {did_you_mean(split, ('train', 'val'))}")


def _free(file: Path, force: bool, endings: tuple[str, ...] = _ENDINGS) -> Path:
    """A file to write. UsageError where it has another ending or is there already, or its folder is not."""
    if file.suffix not in endings:
        raise UsageError(f"{file}: the name ends in {' or '.join(endings)}")
    if not file.parent.is_dir():
        raise UsageError(f"{file.parent} is not there; make the folder first")
    if file.exists() and not force:
        raise UsageError(f"{file} exists already and is not overwritten: give another name, or --force to replace it")
    return file


def _open(found: Any, device: str, data_dir: Path | None, at: int | None, plugin: list[Path] | None) -> Trained:
    from lsc_engine.plugins import load_plugins
    from lsc_engine.training.devices import pick_device
    from lsc_engine.training.trained import open_trained

    load_plugins(plugin or [])
    return open_trained(found, device=pick_device(device), data_dir=data_dir, at=at)


def _of_files(files: list[Path], trained: Trained) -> list[dict[str, Any]]:
    from lsc_engine.training.applying import predict as labels_of
    from lsc_engine.training.applying import read_images

    told = [one for images in read_images(files, trained) for one in labels_of(trained, trained.embed(images))]
    return [{"image": str(file), **_row(one)} for file, one in zip(files, told, strict=True)]


def _of_dataset(
    trained: Trained, dataset: str | None, split: str, path: str | None, classes: int | None, limit: int | None,
    data_dir: Path | None,
) -> list[dict[str, Any]]:  # fmt: skip
    import torch

    from lsc_engine.training.applying import Wanted, open_images
    from lsc_engine.training.applying import predict as labels_of

    source = open_images(trained, Wanted(dataset, split, path, classes), data_dir)
    count = source.images if limit is None else min(limit, source.images)
    rows: list[dict[str, Any]] = []
    for z, labels in trained.embeddings(source, torch.arange(count)):
        for one, true in zip(labels_of(trained, z), labels.tolist(), strict=True):
            rows.append({"image": len(rows), "true": true, **_row(one)})
    return rows


def _row(one: Prediction) -> dict[str, Any]:
    return {"label": one.label, "new_class": one.label is None, "nearest": one.nearest, "cosine": one.cosine}


def _tell(rows: list[dict[str, Any]], run: str, trained: Trained, file: Path | None, as_json: bool) -> None:
    summary: dict[str, Any] = {"run": run, "step": trained.step, "images": len(rows)}
    summary["new_classes"] = sum(row["new_class"] for row in rows)
    if rows and "true" in rows[0]:
        summary["accuracy"] = sum(row["nearest"] == row["true"] for row in rows) / len(rows)
    if file is not None:
        with file.open("w", newline="", encoding="utf-8") as out:
            writer = csv.DictWriter(out, list(rows[0]) if rows else ["image"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    if as_json:
        emit_json({**summary, "labels": rows})
        return
    if file is None:
        for row in rows:
            what = "new class" if row["new_class"] else f"{row['label']}"
            name = f"  {printable(row['name'])}" if row["name"] else ""
            cosine = "" if row["cosine"] is None else f"  cosine {row['cosine']:.4f}"
            near = f"  nearest {row['nearest']}" if row["new_class"] else ""
            print(f"{printable(str(row['image']))}  {what}{name}{cosine}{near}")
    share = f", {100 * summary['accuracy']:.1f} % right" if "accuracy" in summary else ""
    say(f"{len(rows):,} image{'' if len(rows) == 1 else 's'}{share}, {summary['new_classes']:,} of a new class")
