"""Commands of the group 'presets': list them, check one without training, copy one to edit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import lsc_engine.cli.options as cli
from lsc_engine.cli.output import answer, console, message, print_json, printable, table
from lsc_engine.common.errors import UsageError
from lsc_engine.common.formatting import counted, duration, grouped, size
from lsc_engine.common.ids import name_fault
from lsc_engine.common.safe_io import writing
from lsc_engine.common.userpaths import user_path
from lsc_engine.plugins import load_plugins
from lsc_engine.runs import open_run
from lsc_engine.runs.folder.layout import PRESET, runs_dirs
from lsc_engine.runs.settings import PLACE

if TYPE_CHECKING:
    from lsc_engine.config.schema import RunConfig
    from lsc_engine.studies.plan import StudyPlan

# Rows of a vector file up to which its smallest angle is measured; of a longer one only the sha256 is shown.
_MAX_MEASURED = 20_000


@cli.command("presets")
def presets(
    filter: Annotated[str, cli.arg("WORDS", "Show those whose name, title or claim contains this.")] = "",
    data_dir: cli.DataDir = None,
    as_json: cli.Json = False,
) -> None:
    """List presets with source and claim: those that ship, then your own ($LSC_PRESETS, else ./presets).

    Example: lsc-engine presets digits
    """
    from lsc_engine.config.load import list_presets
    from lsc_engine.studies.preset_list import OWN, PAPERS, by_paper, data_found, matches

    infos = [(info, data_found(info.dataset, data_dir)) for info in list_presets()]
    found = {info.path: known for info, known in infos if matches(info, filter, known)}
    listed = [info for info, _ in infos if info.path in found]
    if as_json:
        names = ("name", "title", "source", "claim", "dataset", "kind", "minutes", "own")
        rows: list[dict[str, Any]] = [{name: getattr(info, name) for name in names} for info in listed]
        for row, info in zip(rows, listed, strict=True):
            row |= {"data_found": found[info.path], "path": str(info.path), "fault": info.fault or None}
        print_json(rows)
        return
    if not listed:
        message(f'no preset matches "{filter}"' if filter else "no presets found")
    out = console()
    for group, members in by_paper(listed).items():
        arxiv, about = PAPERS.get(group, ("", ""))
        heading = "your own" if group == OWN else f"{arxiv or about or group}, {group}/"
        if group and members:
            out.print(printable(heading), style="bold underline")
        for info in members:
            out.print(printable(info.name), style="bold")
            lines = [f"fault   {info.fault}"]
            if not info.fault:
                lost = " (not found here)" if found[info.path] is False else ""
                time = f"{info.minutes:g} minutes of one CPU core, measured" if info.minutes else ""
                facts = {"claim": info.claim, "source": info.source, "data": info.dataset + lost, "time": time}
                lines = [info.title, *(f"{key:7} {text}" for key, text in facts.items() if text)]
            for line in lines:
                if line:
                    out.print(printable(f"    {line}"))


@cli.command("check")
def check(
    study: cli.StudyOptions,
    data_dir: cli.DataDir = None,
    plugin: cli.Plugins = None,
    as_json: cli.Json = False,
) -> None:
    """Validate a preset and show what each variant resolves to, without training or creating anything.

    Example: lsc-engine check demo --set data.classes=500
    """
    load_plugins(plugin or [])
    document = _checked(cli.load_plan(study), data_dir)
    if any(text.replace(" ", "").startswith(f"{PLACE}=") for text in study.sets or ()):
        missing = [one for row in document["variants"].values() for one in row["missing"] if one.startswith(PLACE)]
        if missing:
            raise UsageError(*(f"--set {one}" for one in dict.fromkeys(missing)))
    answer(as_json, document)
    if not as_json:
        _print_check(document)


@cli.command("new")
def new(
    preset: cli.Preset,
    file: Annotated[Path, cli.arg("FILE", "The file to write; it must not exist.")],
    as_json: cli.Json = False,
) -> None:
    """Copy a preset to a file of your own, to edit.

    Example: lsc-engine new demo presets/mine.toml
    """
    from lsc_engine.config.load import read_preset

    document = read_preset(preset)
    file = user_path(file)
    if file.suffix != ".toml":
        raise UsageError(f"FILE {file}: a preset's name ends in .toml, {file.parent / file.stem}.toml would do")
    if (fault := name_fault(file.stem)) is not None:
        raise UsageError(f"FILE {file}: the file's name becomes the study's: {fault}")
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with file.open("x", encoding="utf-8") as out:
                out.write(document.text)
        except FileExistsError as error:
            raise UsageError(f"FILE {file}: exists already and is not overwritten; give another name") from error
    note = f"{file} written; check it with: lsc-engine check {file}"
    answer(as_json, {"preset": document.name, "file": str(file)}, note=note)


def _checked(plan: StudyPlan, data_dir: Path | None) -> dict[str, Any]:
    from lsc_engine.config.derived import bad_notes, data_notes, known_shortfall, summary

    preset = plan.preset
    configs: dict[str, RunConfig] = {}
    for run in plan.runs:
        configs.setdefault(run.config.variant, run.config)
    variants: dict[str, dict[str, Any]] = {}
    for name, config in configs.items():
        row = summary(config, data_dir)
        row["notes"] = [*data_notes(config.data, data_dir), *bad_notes(config.data, data_dir)]
        if (short := known_shortfall(config.data, data_dir)) is not None:
            row["missing"] = [*row["missing"], short]
        row |= _sizes(config, row, _teacher(config, plan)) if row.get("classes") else {}
        variants[name] = {"label": config.label, "needs": list(preset.variant(name).needs), **row}
    return {
        "preset": preset.name,
        "file": preset.path,
        **{name: getattr(preset, name) for name in ("title", "source", "claim", "kind")},
        "claim_source": preset.provenance.get("claim", ""),
        "study": plan.study,
        "seeds": list(preset.seeds),
        "runs": [run.id for run in plan.runs],
        "tries": len(plan.tune.runs) if plan.tune else 0,
        "data_found": all(not row["missing"] for row in variants.values()),
        "warnings": list(preset.warnings),
        "variants": variants,
    }


def _teacher(config: RunConfig, plan: StudyPlan) -> RunConfig | None:
    """The settings of the run that teaches this one, of the study or the runs folder; None if there is none yet."""
    from lsc_engine.config.load import load_run_config
    from lsc_engine.config.schema import CrossEntropy

    teacher = config.target.teacher if isinstance(config.target, CrossEntropy) else None
    planned = {run.id: run.config for run in plan.runs}
    if teacher is None or teacher in planned:
        return planned.get(teacher or "")
    try:
        return load_run_config(open_run(teacher, runs_dirs(None)).path / PRESET)
    except UsageError:
        return None


def _sizes(config: RunConfig, row: dict[str, Any], teacher: RunConfig | None) -> dict[str, Any]:
    """Parameters and memory of the model, which torch builds as shapes."""
    from lsc_engine.heads.model_sizes import model_sizes

    channels, pixels, classes = row["channels"], row["image_size"], row["classes"]
    sizes = model_sizes(config, channels=channels, size=pixels, dim=row["n"], classes=classes, teacher=teacher)
    names = ("parameters", "head_parameters", "fixed_parameters", "optimizer_bytes", "teacher_bytes")
    found = {
        "n": sizes["dim"],
        "embedding_bytes": 4 * sizes["dim"],
        **{name: sizes[name] for name in names},
        # A class layer on an embedding of this width would add this many weights and biases.
        "class_layer_parameters": (sizes["dim"] + 1) * classes,
        "memory_bytes": sizes["memory_bytes"] + row["table_bytes"],
    }
    system = config.system or ""
    if not system.startswith("file:") or row["count"] > _MAX_MEASURED:
        return found
    from lsc_engine.vectors.families.tables import Table, load_table

    rows = Table.with_rows(system, load_table(Path(system.removeprefix("file:"))))
    found |= {"table_sha256": rows.sha256, "max_cosine": rows.max_cosine}
    return found | {"min_angle_deg": rows.min_angle_deg, "sure_below": rows.guaranteed_below}


def _print_check(document: dict[str, Any]) -> None:
    lines = {"title": document["title"], "claim": document["claim"], "": document["claim"] and document["claim_source"]}
    for key, text in (lines | {"source": document["source"], "file": document["file"]}).items():
        if text:
            print(printable(f"{key:8}{text}"))
    if document["kind"] != "train":
        print(f"kind    {document['kind']}: makes its report without training")
        return
    before = f", after {counted(document['tries'], 'try', 'tries')} of [tune]" if document["tries"] else ""
    seeds = " ".join(["seed" if len(document["seeds"]) == 1 else "seeds", *map(str, document["seeds"])])
    print(f"study   {document['study']}: {counted(len(document['runs']), 'run')}, {seeds}{before}")
    columns = {name: _lines_of(row) for name, row in document["variants"].items()}
    keys = list(dict.fromkeys(key for column in columns.values() for key in column))
    same = [key for key in keys if len(columns) > 1 and len({column.get(key) for column in columns.values()}) == 1]
    rest = [key for key in keys if key not in same]
    parts = [({"all variants": next(iter(columns.values()))}, same)] if same else []
    parts += [({name: columns[name] for name in names}, rest) for names in _side_by_side(columns, rest)]
    for part, part_keys in parts:
        rows = [[key, *(column.get(key, "-") for column in part.values())] for key in part_keys]
        rows = [[row[0].ljust(max(map(len, keys))), *row[1:]] for row in rows if set(row[1:]) != {"-"}]
        print("\n" + table(["", *part], rows, " " + "r" * len(part)))
    for warning in document["warnings"]:
        message(f"warning: {warning}")
    for kind, key in (("note", "notes"), ("missing", "missing")):
        for sentence in dict.fromkeys(s for row in document["variants"].values() for s in row[key]):
            message(f"{kind}: {sentence}")


def _side_by_side(columns: dict[str, dict[str, str]], keys: list[str]) -> list[list[str]]:
    """The variants in groups whose columns fit beside the keys on the terminal."""
    left = room = shutil.get_terminal_size((80, 24)).columns - max(map(len, keys), default=0)
    groups: list[list[str]] = [[]]
    for name, column in columns.items():
        needed = 2 + max(len(name), *(len(column.get(key, "-")) for key in keys))
        if groups[-1] and needed > left:
            groups.append([])
            left = room
        groups[-1].append(name)
        left -= needed
    return groups if keys else []


# What only some variants have, and the line that shows it.
_OPTIONAL: dict[str, tuple[str, Callable[[Any], str]]] = {
    "first_class": ("trained from class", grouped),
    "label_noise": ("wrong labels", "{:.3g} of all".format),
    "imbalance": ("smallest class", "{:.3g} of its images".format),
    "start_from": ("begins with", str),
    "teacher": ("teacher", str),
    "scale": ("scale", "{:g}".format),
    "margin": ("margin", "{:g}".format),
    "batch_axis": ("softmax along", str),
    "share": ("classes a step", "{:.3g} of all".format),
    "center_weight": ("centre loss", "{:g}".format),
    "momentum": ("running means keep", "{:g}".format),
    "shift": ("validated also", str),
    "also": ("measured at the end", ", ".join),
    "ood": ("other classes", str),
    "mirrors": ("written also for", ", ".join),
    "teacher_bytes": ("teacher in memory", size),
    "bottleneck": ("bottleneck", grouped),
    "fixed_parameters": ("fixed weights", grouped),
}


def _lines_of(row: dict[str, Any]) -> dict[str, str]:
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
        lines |= _vector_lines(row)
    lines |= {words: shown(row[key]) for key, (words, shown) in _OPTIONAL.items() if row[key]}
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


def _vector_lines(row: dict[str, Any]) -> dict[str, str]:
    share = f"{row['in_use']:.1%}" if row["in_use"] >= 0.001 else f"{row['in_use']:.1e}"
    lines = {"order": row["order"], "vectors": f"{grouped(row['count'])}, {share} used"}
    if row["max_cosine"] is not None:
        lines |= {
            "largest cosine": f"{row['max_cosine']:.4f}" + (f", {note}" if (note := row["max_cosine_note"]) else ""),
            "smallest angle": f"{row['min_angle_deg']:.2f}°",
            "sure below": f"{row['sure_below']:.4f}" if row["loss_kind"] == "c" else "-",
        }
    if row["near_in_use"]:
        near = [f"{x:.3g}" if x < 1000 else grouped(round(x)) for x in row["near_in_use"]]
        lines["classes so near"] = " to ".join(dict.fromkeys(near))
    if row["table_bytes"]:
        lines["table in memory"] = size(row["table_bytes"])
    if row["choice_bytes"]:
        lines["choice of vectors"] = f"about {duration(row['choice_seconds'])}, {size(row['choice_bytes'])}"
    if row.get("table_sha256"):
        lines["vector file"] = f"sha256 {row['table_sha256'][:16]}"
    return lines
