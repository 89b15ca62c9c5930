"""Commands of the group 'presets': list them, check one without training, copy one to edit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lsc_engine.cli.options import DataDir, Json, Plugins, Preset, Seeds, Sets, StudyName, Sweeps, Variants, load_plan
from lsc_engine.common.formatting import grouped, size
from lsc_engine.errors import LscError, UsageError
from lsc_engine.userpaths import user_path

if TYPE_CHECKING:
    from lsc_engine.config.load import PresetInfo
    from lsc_engine.config.plan import StudyPlan
    from lsc_engine.config.schema import RunConfig

# The folders of shipped presets.
PAPERS = {
    "lsc-2025": "arXiv:2510.04090",
    "vector-systems-2025": "arXiv:2512.07509",
    "etf-2024": "arXiv:2412.00884",
    "beyond": "beyond the papers",
}


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command("presets")(presets)
    app.command("check")(check)
    app.command("new")(new)


def presets(
    filter: Annotated[
        str, typer.Argument(metavar="WORDS", help="Show those whose name, title or claim contains this.")
    ] = "",
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """List presets with source and claim: those that ship, then your own ($LSC_PRESETS, else ./presets).

    Example: lsc-engine presets digits
    """
    from lsc_engine.cli.output import message, print_json
    from lsc_engine.config.load import list_presets

    words = filter.lower()
    listed = [i for i in list_presets() if words in f"{i.name} {i.title} {i.claim} {i.source} {i.dataset}".lower()]
    if json:
        print_json([_listed(info, data_dir) for info in listed])
        return
    if not listed:
        message(f'no preset matches "{filter}"' if filter else "no presets found")
    _print_presets(listed, data_dir)


def check(
    preset: Preset,
    variant: Variants = None,
    set_: Sets = None,
    sweep: Sweeps = None,
    seeds: Seeds = None,
    name: StudyName = None,
    data_dir: DataDir = None,
    plugin: Plugins = None,
    json: Json = False,
) -> None:
    """Validate a preset and show what each variant resolves to, without training or creating anything.

    Example: lsc-engine check demo --set data.classes=500
    """
    from lsc_engine.cli.output import print_json

    plan = load_plan(preset, variant, set_, sweep, seeds, name, plugin)
    document = _checked(plan, data_dir)
    if json:
        print_json(document)
    else:
        _print_check(document)


def new(
    preset: Preset,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write; it must not exist.")],
    json: Json = False,
) -> None:
    """Copy a preset to a file of your own, to edit.

    Example: lsc-engine new demo presets/mine.toml
    """
    from lsc_engine.cli.output import message, print_json
    from lsc_engine.common.ids import name_fault
    from lsc_engine.config.load import read_preset

    document = read_preset(preset)
    file = user_path(file)
    if file.suffix != ".toml":
        raise UsageError(f"FILE {file}: a preset's name ends in .toml, {file}.toml would do")
    if (fault := name_fault(file.stem)) is not None:
        raise UsageError(f"FILE {file}: the file's name becomes the study's: {fault}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as out:
            out.write(document.text)
    except FileExistsError as error:
        raise UsageError(f"FILE {file}: exists already and is not overwritten; give another name") from error
    except OSError as error:
        raise LscError(f"{file}: cannot be written: {error.strerror or error}") from error
    if json:
        print_json({"preset": document.name, "file": str(file)})
    else:
        message(f"{file} written; check it with: lsc-engine check {file}")


def _listed(info: PresetInfo, data_dir: Path | None) -> dict[str, Any]:
    return {
        "name": info.name,
        "title": info.title,
        "source": info.source,
        "claim": info.claim,
        "dataset": info.dataset,
        "kind": info.kind,
        "data_found": _at_hand(info, data_dir),
        "minutes": info.minutes,
        "own": info.own,
        "path": str(info.path),
        "fault": info.fault or None,
    }


def _at_hand(info: PresetInfo, data_dir: Path | None) -> bool | None:
    from lsc_engine.config.datasets import DATASETS, locate

    # Only the preset says where a folder is; `check` looks there.
    if info.dataset not in DATASETS or info.dataset == "folder":
        return None
    return locate(info.dataset, data_dir) is not None


def _print_presets(listed: list[PresetInfo], data_dir: Path | None) -> None:
    from lsc_engine.cli.output import console, printable

    out = console()
    heading = ""
    for own in (False, True):
        for info in (info for info in listed if info.own == own):
            group = "your own" if own else PAPERS.get(info.folder, info.folder)
            if group != heading:
                heading = group
                out.print(printable(f"{group}" if own else f"{group}, {info.folder}/"), style="bold underline")
            data = f"{info.dataset}{' (not found here)' if _at_hand(info, data_dir) is False else ''}"
            took = f"time    {info.minutes:g} minutes of one CPU core, measured" if info.minutes else ""
            lines = [info.title, f"claim   {info.claim}", f"source  {info.source}", f"data    {data}", took]
            lines = [f"fault   {info.fault}"] if info.fault else [x for x in lines if x and not x.endswith("  ")]
            out.print(printable(info.name), style="bold", markup=False)
            for line in lines:
                out.print(printable(f"    {line}"), markup=False)


def _checked(plan: StudyPlan, data_dir: Path | None) -> dict[str, Any]:
    from lsc_engine.config.notes import known_shortfall
    from lsc_engine.config.summary import summary

    preset = plan.preset
    variants: dict[str, dict[str, Any]] = {}
    for run in plan.runs:
        if run.config.variant in variants:
            continue
        row = {"label": run.config.label, "needs": list(preset.variant(run.config.variant).needs)}
        row |= summary(run.config, data_dir)
        row["notes"] = _notes(run.config, data_dir)
        if (short := known_shortfall(run.config.data, data_dir)) is not None:
            row["missing"] = [*row["missing"], short]
        if row.get("classes"):
            row |= _size(run.config, row, _teacher(run.config, plan))
        variants[run.config.variant] = row
    return {
        "preset": preset.name,
        "file": preset.path,
        "title": preset.title,
        "source": preset.source,
        "claim": preset.claim,
        "claim_source": preset.provenance.get("claim", ""),
        "kind": preset.kind,
        "study": plan.study,
        "seeds": list(preset.seeds),
        "runs": [run.id for run in plan.runs],
        "tries": len(plan.tune.runs) if plan.tune else 0,
        "data_found": all(not row["missing"] for row in variants.values()),
        "warnings": list(plan.warnings),
        "variants": variants,
    }


def _notes(config: RunConfig, data_dir: Path | None) -> list[str]:
    """What the folders of the data set hold that is not used or cannot be. FolderError where they cannot be read."""
    from lsc_engine.config.notes import bad_notes, data_notes

    return [*data_notes(config.data, data_dir), *bad_notes(config.data, data_dir)]


def _teacher(config: RunConfig, plan: StudyPlan) -> RunConfig | None:
    """The settings of the run that teaches this one: of the same study, or of the runs folder; None where it has no
    teacher, or one that is not there yet."""
    from lsc_engine.config.schema import CrossEntropy

    teacher = config.target.teacher if isinstance(config.target, CrossEntropy) else None
    if teacher is None:
        return None
    planned = {run.id: run.config for run in plan.runs}
    if teacher in planned:
        return planned[teacher]
    from lsc_engine.config.schema import RunConfig
    from lsc_engine.runs.folder.layout import PRESET, runs_dirs
    from lsc_engine.runs.read.run import open_run

    try:
        return RunConfig.from_toml(open_run(teacher, runs_dirs(None)).path / PRESET)
    except UsageError:
        return None


def _size(config: RunConfig, row: dict[str, Any], teacher: RunConfig | None) -> dict[str, Any]:
    from lsc_engine.heads.model_sizes import model_sizes

    channels, pixels, classes = row["channels"], row["image_size"], row["classes"]
    sizes = model_sizes(config, channels=channels, size=pixels, dim=row["n"], classes=classes, teacher=teacher)
    # A class layer on an embedding of this width would add this many weights and biases.
    layer = (sizes["dim"] + 1) * row["classes"]
    return {
        "n": sizes["dim"],
        "embedding_bytes": 4 * sizes["dim"],
        "parameters": sizes["parameters"],
        "head_parameters": sizes["head_parameters"],
        "fixed_parameters": sizes["fixed_parameters"],
        "optimizer_bytes": sizes["optimizer_bytes"],
        "teacher_bytes": sizes["teacher_bytes"],
        "class_layer_parameters": layer,
        "memory_bytes": sizes["memory_bytes"] + row["table_bytes"],
        **_vector_file(config.system or "", row),
    }


# Rows of a vector file whose angles are all looked at; of a longer one the content alone is named.
_ROWS_LOOKED_AT = 20_000


def _vector_file(system: str, row: dict[str, Any]) -> dict[str, Any]:
    """The content and the smallest angle of a `file:` system. UsageError where two of its classes share a centre."""
    if not system.startswith("file:") or row["count"] > _ROWS_LOOKED_AT:
        return {}
    from lsc_engine.vectors.families.tables import Table, load_table

    found = Table.with_rows(system, load_table(system.removeprefix("file:")))
    return {
        "table_sha256": found.sha256,
        "max_cosine": found.max_cosine,
        "min_angle_deg": found.min_angle_deg,
        "sure_below": found.guaranteed_below,
    }


def _print_check(document: dict[str, Any]) -> None:
    from rich.table import Table

    from lsc_engine.cli.output import console, message, printable

    out = console()
    for key in ("title", "claim", "source", "file"):
        if document[key]:
            out.print(printable(f"{key:8}{document[key]}"), markup=False)
        if key == "claim" and document["claim_source"]:
            out.print(printable(f"{'':8}{document['claim_source']}"), markup=False)
    runs, tries = len(document["runs"]), document["tries"]
    seeds = " ".join(map(str, document["seeds"]))
    before = f", after {tries} tries of [tune]" if tries else ""
    if document["kind"] != "train":
        out.print(f"kind    {document['kind']}: makes its report without training")
        return
    out.print(f"study   {document['study']}: {runs} runs, seeds {seeds}{before}", markup=False)
    columns = {name: _words(row) for name, row in document["variants"].items()}
    keys = list(dict.fromkeys(key for column in columns.values() for key in column))
    same = [key for key in keys if len(columns) > 1 and len({column.get(key) for column in columns.values()}) == 1]
    first = next(iter(columns))
    parts = [("all variants", [first], same)] if same else []
    rest = [key for key in keys if key not in same]
    parts += [("", names, rest) for names in _side_by_side(columns, rest, out.width)]
    for heading, names, lines in parts:
        out.print()
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("", no_wrap=True, min_width=max(map(len, keys)))
        for name in names:
            table.add_column(printable(heading or name), justify="right", overflow="fold")
        for key in (key for key in lines if any(columns[name].get(key, "-") != "-" for name in names)):
            table.add_row(key, *(printable(columns[name].get(key, "-")) for name in names))
        out.print(table)
    for warning in document["warnings"]:
        message(f"warning: {warning}")
    for sentence in dict.fromkeys(s for row in document["variants"].values() for s in row["notes"]):
        message(f"note: {sentence}")
    for sentence in dict.fromkeys(s for row in document["variants"].values() for s in row["missing"]):
        message(f"missing: {sentence}")


def _side_by_side(columns: dict[str, dict[str, str]], keys: list[str], width: int) -> list[list[str]]:
    """The variants in groups whose columns fit beside the keys in `width` cells, or stand alone."""
    room = width - max(map(len, keys), default=0)
    groups: list[list[str]] = [[]]
    left = room
    for name, column in columns.items():
        needed = 2 + max(len(name), *(len(column.get(key, "-")) for key in keys))
        if groups[-1] and needed > left:
            groups.append([])
            left = room
        groups[-1].append(name)
        left -= needed
    return groups if keys else []


# What a variant has only sometimes, and the line that tells it.
TAKEN = {"start_from": "begins with", "teacher": "teacher", "shift": "validated also"}


def _words(row: dict[str, Any]) -> dict[str, str]:
    """What the table shows of one variant, by line."""
    lines = {"label": row["label"], "data": f"{row['dataset']}{'' if row['data_found'] else ', not found'}"}
    if row.get("classes") is None:
        return lines
    about = "" if row["images_counted"] else "about "
    lines |= {
        "images": f"{about}{grouped(row['images'])}, {row['image_size']} px",
        "validation": grouped(row["val_images"]) if row["val_images"] else "none",
        "classes": grouped(row["classes"]),
        "target": row["system"] or row["method"],
        "loss": f"{row['loss']} ({row['loss_kind']}){' + ' + row['within'] if row['within'] else ''}",
        "n": grouped(row["n"]),
    }
    if row["system"]:
        lines["order"] = row["order"]
        lines |= {"vectors": f"{grouped(row['count'])}, {_share(row['in_use'])} used"}
        if row["max_cosine"] is not None:
            lines |= {
                "largest cosine": f"{row['max_cosine']:.4f}",
                "smallest angle": f"{row['min_angle_deg']:.2f}°",
                "sure below": f"{row['sure_below']:.4f}" if row["loss_kind"] == "c" else "-",
            }
        if row["near_in_use"]:
            lines["classes so near"] = _range(row["near_in_use"])
        if row["table_bytes"]:
            lines["table in memory"] = size(row["table_bytes"])
        if row.get("table_sha256"):
            lines["vector file"] = f"sha256 {row['table_sha256'][:16]}"
    if row["first_class"]:
        lines["trained from class"] = grouped(row["first_class"])
    lines |= {words: row[key] for key, words in TAKEN.items() if row[key]}
    if row["teacher_bytes"]:
        lines["teacher in memory"] = size(row["teacher_bytes"])
    if row["bottleneck"]:
        lines["bottleneck"] = grouped(row["bottleneck"])
    if row["fixed_parameters"]:
        lines["fixed weights"] = grouped(row["fixed_parameters"])
    return lines | {
        "parameters": grouped(row["parameters"] + row["head_parameters"]),
        "class layer": grouped(row["head_parameters"]),
        "CE would add": grouped(row["class_layer_parameters"]),
        "optimizer state": size(row["optimizer_bytes"]),
        "memory about": size(row["memory_bytes"]),
        "embedding": size(row["embedding_bytes"]),
        "steps an epoch": grouped(row["steps_per_epoch"]),
        "steps": grouped(row["total_steps"]),
        "warm-up steps": grouped(row["warmup_steps"]),
        "evaluated every": f"{grouped(row['eval_every_steps'])} steps",
    }


def _share(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else f"{share:.1e}"


def _range(pair: list[float]) -> str:
    low, high = (f"{x:.3g}" if x < 1000 else grouped(round(x)) for x in pair)
    return low if low == high else f"{low} to {high}"
