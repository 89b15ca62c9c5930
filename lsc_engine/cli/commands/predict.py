"""Commands that use a trained run: embed, evaluate, predict."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import lsc_engine.cli.options as cli
from lsc_engine.cli.output import answer, message, printable, table
from lsc_engine.common.errors import LscError, UsageError, did_you_mean
from lsc_engine.common.formatting import counted, grouped
from lsc_engine.common.safe_io import write_csv, writing
from lsc_engine.common.userpaths import absent, user_path
from lsc_engine.plugins import load_plugins
from lsc_engine.runs import open_run

if TYPE_CHECKING:
    from lsc_engine.runs.read.run import Run
    from lsc_engine.training.trained_run import DataSelection, LabelledImages, TrainedRun

Dataset = Annotated[str | None, cli.opt("--dataset", "NAME", "Another data set. Default: the run's own.")]
Classes = Annotated[int | None, cli.num("--classes", "K", "Only the first K classes. Default: the run's.", min=2)]
Limit = Annotated[int | None, cli.num("--limit", "K", "Use only the first K images.", min=1)]
_CERTAIN = ("probability", "entropy", "energy")


@cli.command("embed")
def embed(
    run: cli.OneRun,
    use: cli.UseOptions,
    split: Annotated[str, cli.opt("--split", "SPLIT", "train or val.")] = "train",
    dataset: Dataset = None,
    path: cli.ImageDir = None,
    classes: Classes = None,
    out: Annotated[Path | None, cli.opt("--out", "FILE", "A .safetensors (the default) or .npy file.")] = None,
    limit: Limit = None,
    force: cli.Force = False,
    as_json: cli.Json = False,
) -> None:
    """Embeddings and labels of a data set by a trained run.

    Example: lsc-engine embed demo/V21-min/seed-0 --out digits.safetensors
    """
    found = open_run(run, use.runs_dir)
    _check_split(split)
    stem = f"{found.id.replace('/', '-')}-{f'{dataset}-' if dataset else ''}{split}"
    file = cli.new_file("--out", out or f"{stem}.safetensors", force, ".safetensors", ".npy")
    if file.suffix == ".npy":
        cli.new_file("--out", file.with_suffix(".labels.npy"), force, ".npy")
    from lsc_engine.training.trained_run import DataSelection, embed_all, open_images, save_embeddings

    trained = open_for_use(found, use)
    source, notes = open_images(trained, DataSelection(dataset, split, path, classes), use.data_dir)
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
    names = {"classes": json.dumps(list(source.class_names))} if source.class_names else {}
    with writing(file):
        files = [str(one) for one in save_embeddings(file, z, labels, facts | names)]
    sizes = {"images": len(z), "n": z.shape[1], "embedding_bytes": 4 * z.shape[1], "bytes": z.nbytes}
    document = {**facts, "step": trained.step, **sizes, "notes": list(notes), "files": files}
    each = f"{z.shape[1]} float32, {grouped(4 * z.shape[1])} bytes each"
    note = f"{counted(len(z), 'embedding')} of {each}, {grouped(z.nbytes)} in all"
    answer(as_json, document, "\n".join(files), note=note)


@cli.command("evaluate")
def evaluate(
    run: cli.OneRun,
    use: cli.UseOptions,
    on: Annotated[str | None, cli.opt("--on", "DATASET", "Another data set. Default: the run's own.")] = None,
    path: cli.ImageDir = None,
    as_json: cli.Json = False,
) -> None:
    """What frozen embeddings are worth: nearest neighbours, a linear probe, retrieval, calibration, and images of other
    classes detected by the largest cosine, the nearest training images and the energy.

    Neighbours and probe go by training images, all else by validation images. With --on they are those of the other
    data set, and ood is how well its validation images are separated from the run's.

    Example: lsc-engine evaluate demo/ce/seed-0 --on printed-digits
    """
    found = open_run(run, use.runs_dir)
    from lsc_engine.data.dataset import check_known
    from lsc_engine.training.calibration import read_scale
    from lsc_engine.training.trained_run import evaluate_run

    trained = open_for_use(found, use)
    if on is not None:
        check_known(on, "--on")
    fitted = read_scale(found.path)
    done = evaluate_run(trained, on, path, use.data_dir, fitted[0] if fitted and fitted[1] == trained.step else None)
    for note in done.notes:
        message(f"note: {note}")
    dataset = path or on or trained.config.data.dataset
    facts = {"run": found.id, "step": trained.step, "dataset": dataset, "images": done.images}
    rows = [[name, f"{100 * value:.2f} %"] for name, value in done.values.items()]
    counts = ", ".join(counted(count, f"{name} image") for name, count in done.images.items())
    document = {**facts, "metrics": done.values, "notes": list(done.notes)}
    answer(as_json, document, lambda: table(["metric", ""], rows, " r"), note=counts)


@cli.command("predict")
def predict(
    run: cli.OneRun,
    use: cli.UseOptions,
    images: Annotated[list[Path] | None, cli.arg("IMAGE", "Image files, or folders of them.", readable=False)] = None,
    dataset: Dataset = None,
    split: Annotated[str | None, cli.opt("--split", "SPLIT", "train or val, of a data set.")] = None,
    path: cli.ImageDir = None,
    classes: Classes = None,
    out: Annotated[Path | None, cli.opt("--csv", "FILE", "Write the labels as CSV to this file.")] = None,
    limit: Limit = None,
    probability: Annotated[bool, cli.opt("--probability", None, "Also probability, entropy and energy.")] = False,
    calibrate: Annotated[bool, cli.opt("--calibrate", None, "Fit the scale of probabilities to the run.")] = False,
    stdin: Annotated[bool, cli.opt("--stdin", None, "A line of JSON for each path on standard input.")] = False,
    force: cli.Force = False,
    as_json: cli.Json = False,
) -> None:
    """Labels of image files, or of a data set, with the cosine to the class's vector; or "new class", where the nearest
    vector of the system belongs to none. Exit code 1 where an image cannot be read; the others have their labels.
    Probabilities are those of a softmax over all vectors of the system, or over the classes of a class layer.

    Example: lsc-engine predict demo/V21-min/seed-0 digit.png
    """
    found = open_run(run, use.runs_dir)
    whole = any(one is not None for one in (dataset, split, path, classes))
    if calibrate and not whole:
        split, whole = "val", True
    if calibrate and (probability or out):
        raise UsageError("--calibrate goes alone, with a data set at most: the probabilities come with --probability")
    if stdin and (images or whole or out or limit):
        raise UsageError("--stdin takes the names of images from standard input; leave images and data sets out")
    if bool(images) == whole and not stdin:
        raise UsageError("name image files, or a data set by --dataset or --split, one of both")
    _check_split(split)
    files = [user_path(one) for one in images or ()]
    missing = [f"IMAGE {file}: {why}" for file in files if (why := absent(file)) is not None]
    if files and len(missing) == len(files):
        raise UsageError(*missing)
    file = cli.new_file("--csv", out, force, ".csv") if out is not None else None

    from lsc_engine.training.trained_run import DataSelection, named_images, open_labelled_images

    trained = open_for_use(found, use)
    if stdin:
        _answer_lines(trained, _scale(trained, found) if probability else None)
        return
    selection = DataSelection(dataset, split, path, classes)
    if calibrate:
        _calibrate(trained, found, selection, use.data_dir, limit, as_json)
        return
    scale = _scale(trained, found) if probability else None
    chosen = named_images(files, limit) if files else open_labelled_images(trained, selection, use.data_dir, limit)
    rows, columns, failed = _labels(trained, chosen, scale)
    for sentence in [*(f"note: {note}" for note in chosen.notes), *(why for _, why in failed)]:
        message(sentence)
    if file is not None:
        with writing(file):
            write_csv(file, [columns, *([row[column] for column in columns] for row in rows)])
    summary: dict[str, Any] = {"run": found.id, "step": trained.step, "images": len(rows)}
    summary["new_classes"] = sum(row["new_class"] for row in rows)
    if scale is not None:
        summary["scale"] = scale
    judged = [row for row in rows if row.get("true") is not None]
    if judged:
        summary["accuracy"] = sum(row["nearest"] == row["true"] for row in judged) / len(judged)
    share = f", {100 * summary['accuracy']:.1f} % right" if judged else ""
    share += f" of {grouped(len(judged))} whose class the run knows" if judged and len(judged) < len(rows) else ""
    unread = f", {grouped(len(failed))} that cannot be read" if failed else ""
    bad = [{"image": name, "error": why} for name, why in failed]
    document = {**summary, "notes": list(chosen.notes), "failed": bad, "labels": rows}
    lines = [] if file is not None else _label_lines(rows, trained.names)
    note = f"{counted(len(rows), 'image')}{share}, {grouped(summary['new_classes'])} of a new class{unread}"
    answer(as_json, document, "\n".join(lines), note=note)
    if failed:
        sys.exit(1)


def _answer_lines(trained: TrainedRun, scale: float | None) -> None:
    """A line of JSON for each line of standard input, as of `predict --json`, or {"image", "error"}."""
    from lsc_engine.training.trained_run import named_images

    for line in sys.stdin:
        if not (word := line.strip()):
            continue
        try:
            request = json.loads(word) if word.startswith("{") else word
            image = request["image"] if isinstance(request, dict) else request
            rows, _, failed = _labels(trained, named_images([user_path(image)]), scale)
            answers = [*rows, *({"image": name, "error": why} for name, why in failed)]
        except (ValueError, KeyError, TypeError):
            answers = [{"image": word, "error": 'neither a path nor {"image": PATH}'}]
        except LscError as error:
            answers = [{"image": image, "error": str(error)}]
        for one in answers:
            print(json.dumps(one, ensure_ascii=False, allow_nan=False), flush=True)


def _check_split(split: str | None) -> None:
    if split not in (None, "train", "val"):
        raise UsageError(f'--split: "{split}" is not a split; {did_you_mean(str(split), ("train", "val"))}')


def open_for_use(found: Run, use: cli.UseOptions) -> TrainedRun:
    """The network of a run, plugins loaded; a note if the names of its classes are not known."""
    from lsc_engine.training.devices import pick_device
    from lsc_engine.training.trained_run import open_trained

    load_plugins(use.plugin or [])
    trained = open_trained(found, device=pick_device(use.device), at=use.at)
    if trained.unnamed:
        message(f"note: {trained.unnamed}")
    return trained


def _calibrate(
    trained: TrainedRun, found: Run, selection: DataSelection, data_dir: Path | None, limit: int | None, as_json: bool
) -> None:
    from lsc_engine.training.calibration import write_calibration
    from lsc_engine.training.trained_run import calibrate, open_labelled_images

    images = open_labelled_images(trained, selection, data_dir, limit)
    data = f"{selection.path or selection.dataset or trained.config.data.dataset} {selection.split or 'val'}"
    fitted = calibrate(trained, images, data)
    with writing(found.path):
        write_calibration(found.path, fitted)
    used = counted(fitted.images, "image")
    before = "" if fitted.nll_before is None else f", {fitted.nll_before:.4g} before"
    text = (
        f"scale {fitted.scale:.4g}, temperature {fitted.temperature:.4g}, by {used} of {data}\n"
        f"{fitted.nll:.4g} nats an image{before}; mean probability {fitted.confidence:.1%}, right {fitted.accuracy:.1%}"
    )
    answer(as_json, {"run": found.id, **asdict(fitted)}, text)


def _scale(trained: TrainedRun, found: Run) -> float:
    """The fitted scale, else that of the training. UsageError if there is neither."""
    from lsc_engine.training.calibration import read_scale

    if (fitted := read_scale(found.path)) is not None:
        if fitted[1] != trained.step:
            message(f"note: calibrated at step {fitted[1]}, and this is step {trained.step}")
        return fitted[0]
    trained_with = trained.head.scale_trained
    if trained_with is None:
        loss = getattr(trained.config.target, "loss", trained.config.target.method)
        raise UsageError(
            f"{found.id} was trained with {loss}, whose scores have no scale: fit one on images that it has not seen, "
            f"by lsc-engine predict {found.id} --calibrate"
        )
    message("note: not calibrated: the scale is that of the training")
    return trained_with


def _labels(
    trained: TrainedRun, images: LabelledImages, scale: float | None
) -> tuple[list[dict[str, Any]], list[str], list[tuple[str, str]]]:
    """Rows, their columns, and what cannot be read with a sentence."""
    from lsc_engine.training.trained_run import predict_all

    true = {"true": images.labels, "true_name": images.class_names}
    known = {column: values for column, values in true.items() if values is not None}
    rows, failed, names = [], list(images.failed), trained.names
    certain = () if scale is None else _CERTAIN
    for number, one in enumerate(predict_all(trained, images, scale)):
        name = images.names[number]
        if isinstance(one, str):
            failed.append((str(name), one))
            continue
        row: dict[str, Any] = {"image": name if isinstance(name, int) else str(name)}
        row |= {column: values[number] for column, values in known.items()}
        row |= {"label": one.label, "new_class": one.label is None, "nearest": one.nearest, "cosine": one.cosine}
        row |= {column: getattr(one, column) for column in certain}
        row["name"] = names[one.label] if one.label is not None and one.label < len(names) else None
        rows.append(row)
    return rows, ["image", *known, "label", "new_class", "nearest", "cosine", *certain, "name"], failed


def _label_lines(rows: list[dict[str, Any]], names: tuple[str, ...]) -> list[str]:
    def called(label: int) -> str:
        name = names[label] if label < len(names) else ""
        return f"{label}  {printable(name)}" if name not in ("", f"{label}") else f"{label}"

    lines = []
    for row in rows:
        what = "new class" if row["new_class"] else called(row["label"])
        values = [f"  {key} {row[key]:.4f}" for key in ("cosine", *_CERTAIN) if row.get(key) is not None]
        near = f"  nearest {called(row['nearest'])}" if row["new_class"] else ""
        lines.append(f"{printable(str(row['image']))}  {what}{''.join(values)}{near}")
    return lines
