"""Commands that use a trained run: embed, predict."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lsc_engine.cli.options import At, DataDir, Device, Force, Json, OneRun, Plugins, RunsDirs
from lsc_engine.cli.output import message, print_json, printable
from lsc_engine.common.errors import LscError, UsageError, did_you_mean
from lsc_engine.common.safe_io import write_csv
from lsc_engine.common.userpaths import absent, user_path

if TYPE_CHECKING:
    from lsc_engine.training.inference import LabelledImages, Prediction
    from lsc_engine.training.trained_run import TrainedRun

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
        "--classes", min=2, metavar="K", help="Use only the first K classes of the data set. Default: the run's."
    ),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, metavar="K", help="Use only the first K images.")]
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
    from lsc_engine.runs.read.run import open_run

    found = open_run(run, runs_dir)
    _check_split(split)
    stem = f"{found.id.replace('/', '-')}-{f'{dataset}-' if dataset else ''}{split}"
    file = _new_file(user_path(out or f"{stem}.safetensors"), force)
    from lsc_engine.training.inference import DataSelection, embed_all, open_images, save_embeddings

    trained = _open(found, device, data_dir, at, plugin)
    source, notes = open_images(trained, DataSelection(dataset, split, path, classes), data_dir)
    for note in notes:
        message(f"note: {note}")
    if source.classes > trained.classes and trained.names:
        message(f"note: labels from {trained.classes} on are classes that the run does not know, in the order above")
    z, labels = embed_all(trained, source, limit)
    facts = {
        "run": found.id,
        "step": str(trained.step),
        "dataset": dataset or trained.config.data.dataset,
        "split": split,
        "system": str(trained.config.system or trained.config.target.method),
    }
    if source.class_names:
        facts["classes"] = json.dumps(list(source.class_names))
    try:
        files = save_embeddings(file, z, labels, facts)
    except OSError as error:
        raise LscError(f"{file} cannot be written: {error.strerror or error}") from None
    if as_json:
        sizes = {"images": len(z), "n": z.shape[1], "embedding_bytes": 4 * z.shape[1], "bytes": z.nbytes}
        facts.pop("classes", None)
        print_json({**facts, "step": trained.step, **sizes, "notes": list(notes), "files": [str(one) for one in files]})
        return
    message(f"{len(z):,} embeddings of {z.shape[1]} float32, {4 * z.shape[1]:,} bytes each, {z.nbytes:,} in all")
    for one in files:
        print(one)


def predict(
    run: OneRun,
    images: Annotated[
        list[Path] | None,
        typer.Argument(metavar="IMAGE", help="Image files, or folders of them.", readable=False),
    ] = None,
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
    vector of the system belongs to none. Exit code 1 where an image cannot be read; the others have their labels.

    Example: lsc-engine predict demo/V21-min/seed-0 digit.png
    """
    from lsc_engine.runs.read.run import open_run

    found = open_run(run, runs_dir)
    whole = dataset is not None or split is not None or path is not None or classes is not None
    if bool(images) == whole:
        raise UsageError("name image files, or a data set by --dataset or --split, one of both")
    if split is not None:
        _check_split(split)
    files = [user_path(one) for one in images or ()]
    missing = [f"IMAGE {file}: {why}" for file in files if (why := absent(file)) is not None]
    if files and len(missing) == len(files):
        raise UsageError(*missing)
    file = _new_file(user_path(out), force, (".csv",)) if out is not None else None
    from lsc_engine.training.inference import (
        DataSelection,
        LabelledImages,
        image_paths,
        open_labelled_images,
        predict_all,
    )

    trained = _open(found, device, data_dir, at, plugin)
    if files:
        paths, left = image_paths(files)
        pictures = LabelledImages(paths, paths=paths, failed=tuple((str(path), why) for path, why in left))
    else:
        pictures = open_labelled_images(trained, DataSelection(dataset, split, path, classes), data_dir)
    rows, failed = [], list(pictures.failed)
    for number, one in enumerate(predict_all(trained, pictures, limit)):
        if isinstance(one, str):
            failed.append((str(pictures.names[number]), one))
        else:
            rows.append(_row(number, one, pictures, trained.names))
    for note in pictures.notes:
        message(f"note: {note}")
    for _, why in failed:
        message(why)
    _print_labels(rows, failed, pictures, found.id, trained, file, as_json)
    if failed:
        sys.exit(1)


def _check_split(split: str) -> None:
    if split not in ("train", "val"):
        raise UsageError(f"--split {split}: {did_you_mean(split, ('train', 'val'))}")


def _new_file(file: Path, force: bool, endings: tuple[str, ...] = _ENDINGS) -> Path:
    """A file to write. UsageError if it has another ending or exists, or its folder does not."""
    if file.suffix not in endings:
        raise UsageError(f"{file}: the name ends in {' or '.join(endings)}")
    if (why := absent(file.parent)) is not None:
        raise UsageError(f"{file.parent}: {why}; make the folder first")
    if os.path.lexists(file) and not force:
        raise UsageError(f"{file} exists already and is not overwritten: give another name, or --force to replace it")
    return file


def _open(found: Any, device: str, data_dir: Path | None, at: int | None, plugin: list[Path] | None) -> TrainedRun:
    from lsc_engine.plugins import load_plugins
    from lsc_engine.training.devices import pick_device
    from lsc_engine.training.trained_run import open_trained

    load_plugins(plugin or [])
    trained = open_trained(found, device=pick_device(device), data_dir=data_dir, at=at)
    if trained.unnamed:
        message(f"note: {trained.unnamed}")
    return trained


def _row(number: int, one: Prediction, pictures: LabelledImages, names: Sequence[str]) -> dict[str, Any]:
    name = pictures.names[number]
    row: dict[str, Any] = {"image": name if isinstance(name, int) else str(name)}
    if pictures.labels is not None:
        row["true"] = pictures.labels[number]
    if pictures.class_names is not None:
        row["true_name"] = pictures.class_names[number]
    row |= {"label": one.label, "new_class": one.label is None, "nearest": one.nearest, "cosine": one.cosine}
    row["name"] = names[one.label] if one.label is not None and one.label < len(names) else None
    return row


def _called(label: int, names: Sequence[str]) -> str:
    """A label with the name of its class."""
    name = names[label] if label < len(names) else ""
    return f"{label}  {printable(name)}" if name not in ("", f"{label}") else f"{label}"


def _columns(pictures: LabelledImages) -> list[str]:
    true = ["true"] if pictures.labels is not None else []
    true += ["true_name"] if pictures.class_names is not None else []
    return ["image", *true, "label", "new_class", "nearest", "cosine", "name"]


def _print_labels(
    rows: list[dict[str, Any]],
    failed: list[tuple[str, str]],
    pictures: LabelledImages,
    run: str,
    trained: TrainedRun,
    file: Path | None,
    as_json: bool,
) -> None:
    summary: dict[str, Any] = {"run": run, "step": trained.step, "images": len(rows)}
    summary["new_classes"] = sum(row["new_class"] for row in rows)
    judged = [row for row in rows if row.get("true") is not None]
    if judged:
        summary["accuracy"] = sum(row["nearest"] == row["true"] for row in judged) / len(judged)
    if file is not None:
        columns = _columns(pictures)
        try:
            write_csv(file, [columns, *([row[column] for column in columns] for row in rows)])
        except OSError as error:
            raise LscError(f"{file} cannot be written: {error.strerror or error}") from None
    if as_json:
        bad = [{"image": name, "error": why} for name, why in failed]
        print_json({**summary, "notes": list(pictures.notes), "failed": bad, "labels": rows})
        return
    if file is None:
        for row in rows:
            what = "new class" if row["new_class"] else _called(row["label"], trained.names)
            cosine = "" if row["cosine"] is None else f"  cosine {row['cosine']:.4f}"
            near = f"  nearest {_called(row['nearest'], trained.names)}" if row["new_class"] else ""
            print(f"{printable(str(row['image']))}  {what}{cosine}{near}")
    share = f", {100 * summary['accuracy']:.1f} % right" if judged else ""
    share += f" of {len(judged):,} whose class the run knows" if judged and len(judged) < len(rows) else ""
    bad_ones = f", {len(failed):,} that cannot be read" if failed else ""
    count = f"{len(rows):,} image{'' if len(rows) == 1 else 's'}"
    message(f"{count}{share}, {summary['new_classes']:,} of a new class{bad_ones}")
