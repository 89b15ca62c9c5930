"""The sections of a report on final values, cost, vectors in use, layers, embeddings, data and settings, and the values
as CSV. Nearest-class-centre accuracies and neural collapse: training/neural_collapse.py (arXiv:2412.00884)."""

from __future__ import annotations

import contextlib
import math
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lsc_engine.analysis.compare import BASELINE, Row, spread_text
from lsc_engine.analysis.levels import place_text
from lsc_engine.analysis.seed_curves import as_series, over_seeds
from lsc_engine.common.errors import LscError
from lsc_engine.common.formatting import NOTHING, duration, grouped, significant, size
from lsc_engine.common.safe_io import UnreadableError, number_of
from lsc_engine.common.settings import flatten
from lsc_engine.config.derived import derive, is_table, summary
from lsc_engine.config.expand import raw_variants, sections_of
from lsc_engine.config.schema import RunConfig, acts, fields
from lsc_engine.report.page import Page, bullets, csv_text, md, plain, table
from lsc_engine.report.study_data import StudyData
from lsc_engine.runs.metrics.reader import FIXED, layers_fixed
from lsc_engine.runs.read.embeddings import Angles, Points, Snapshot, list_snapshots, read_snapshot
from lsc_engine.runs.read.run import Run
from lsc_engine.runs.read.studies import Cost, cost_of, stages_of

if TYPE_CHECKING:
    from lsc_engine.report import figures

# Row key -> parameters of the network and of the class layer.
Sizes = Mapping[str, Mapping[str, Any]]
# Rows of a table of vectors whose cosines are all compared.
_MOST_ROWS = 8192
_LAYER = re.compile(r"(train|val)/ncc_(\d+)")
_COLLAPSE = {"effective_depth": "effective depth", "nc1": "NC1", "nc2": "NC2", "nc3": "NC3", "nc4": "NC4"}
_COLLAPSE_NOTE = (
    "Effective depth: the first layer with at most 10 % of training images nearer another class's centre, else the "
    "number of layers. NC1 to NC4 of the last layer: 0 is collapse."
)
_VECTORS_NOTE = (
    "Classes so near: how many classes in use lie at the smallest angle from one class, expected. Sure below: "
    "1 − cos of half the smallest angle; an image whose own cosine loss is under it has the right label whatever "
    "the others do. With few near classes labels come right while the loss is still above it."
)
# Moments of training shown of one variant, fewer if there are many classes to draw.
MOMENTS = 4
_MANY_CLASSES = 40


def accuracy_names(rows: Sequence[Row]) -> list[str]:
    """The shares that were logged: accuracies first."""
    found = {name for row in rows for name in row.last if "accuracy" in name or "/inside" in name}
    return sorted(found, key=lambda name: (name != "train/accuracy", "accuracy" not in name, name))


def final_table(data: StudyData) -> str:
    """Final values, mean ± standard deviation over seeds, beside the paper's and the best constant answer."""
    paper = data.paper
    names = accuracy_names(data.rows)
    losses = [name for name in ("train/loss", "val/loss") if any(name in row.last for row in data.rows)]
    head = ["variant", "seeds", *([f"paper: {paper.metric}"] if paper.values else [])]
    head += [*(f"{name} %" for name in names), *losses, "best constant loss"]
    rows = []
    chances: dict[float, list[str]] = {}
    for row in data.rows:
        cells = [data.name(row), row.finished]
        cells += [paper.values.get(row.variant, NOTHING)] if paper.values else []
        cells += [spread_text(row.last.get(name), 100) for name in names]
        cells += [spread_text(row.last.get(name), kind=row.kind) for name in losses]
        rows.append([*cells, significant(row.trivial.loss)])
        if row.trivial.chance is not None:
            chances.setdefault(row.trivial.chance, []).append(row.label)
    # Variants that the paper has a figure of and that have no runs here.
    labels = {variant.name: variant.label for variant in data.preset.variants} if data.preset is not None else {}
    for name in (name for name in paper.values if all(row.variant != name for row in data.rows)):
        rows.append([labels.get(name, name), "0", paper.values[name], *[NOTHING] * (len(head) - 3)])
    notes = [f"{md(row.label)} is {row.at_trivial_loss}." for row in data.rows if row.at_trivial_loss is not None]
    each = [f"{100 * level:.3g} % for {md(', '.join(chances[level]))}" for level in sorted(chances)]
    each = [f"{100 * level:.3g} %" for level in chances] if len(chances) == 1 else each
    notes += [f"Chance is {'; '.join(each)}."] if each else []
    if any("inside" in name for name in names):
        notes.append("inside: the share of images closer to their own centre than half the smallest angle.")
    if paper.values:
        notes.append(f"The paper's figures are the paper's, on its data. {md(paper.note)}".strip())
    elif paper.note:
        notes.append(f"The paper: {md(paper.note)}.")
    text = table(list(map(md, head)), [list(map(md, row)) for row in rows], "lr" + "r" * len(head))
    return "\n\n".join(filter(None, (text, bullets(notes))))


def _sum(costs: Sequence[Cost], parts: int = 1) -> Cost:
    return Cost(sum(c.steps for c in costs) / parts, sum(c.seconds for c in costs) / parts)


def _choice_seconds(runs: Sequence[Run]) -> float | None:
    """Mean seconds of the passes and assignments that chose vectors (`choices` in source.json); None without."""
    spent = [
        sum(number_of(choice.get(key)) or 0.0 for choice in choices for key in ("pass_seconds", "assign_seconds"))
        for run in runs
        if isinstance(choices := run.source.get("choices"), list)
    ]
    return sum(spent) / len(spent) if spent else None


def cost_table(data: StudyData, sizes: Sizes) -> str:
    """Steps, seconds, speed and parameters of each variant, and the same with the stages it begins with."""
    stages = {row.key: [stages_of(run) for run in row.runs] for row in data.rows}
    staged = any(known or lost for every in stages.values() for known, lost in every)
    chosen = {row.key: _choice_seconds(row.runs) for row in data.rows}
    chooses = any(chosen.values())
    before: dict[str, Cost] = {}
    head = ["variant", "steps", "time", *(["choice of vectors"] if chooses else []), "images/s"]
    head += ["begins with", "steps in all", "time in all"] if staged else []
    rows = []
    for row in data.rows:
        every, known = stages[row.key], sizes.get(row.key, {})
        own = _sum([cost_of(run) for run in row.runs], len(row.runs))
        before[row.key] = _sum([cost_of(stage) for found, _ in every for stage in found], len(every))
        speed = row.last.get("speed/images_per_second")
        cells = [md(data.name(row)), grouped(own.steps), duration(own.seconds)]
        cells += [duration(chosen[row.key])] if chooses else []
        mark = f" ({row.disturbed})" if row.disturbed else ""
        cells.append(f"{grouped(speed[0])}{mark}" if speed is not None else NOTHING)
        if staged:
            names = [stage.variant for found, _ in every for stage in found]
            names += [f"{name} (not found)" for _, lost in every for name in lost]
            whole = _sum([own, before[row.key]])
            cells += [md(", ".join(dict.fromkeys(names))) or NOTHING, grouped(whole.steps), duration(whole.seconds)]
        total = known.get("parameters", math.nan) + known.get("head_parameters", math.nan)
        rows.append([*cells, grouped(total), grouped(known.get("head_parameters"))])
    align = "lrrr" + "r" * chooses + ("lrr" if staged else "") + "rr"
    text = table([*head, "parameters", "of them class layer"], rows, align)
    base = data.baseline
    if not staged or base is None or not base.levels or base.at_trivial_loss is not None:
        return text
    return f"{text}\n\nWith the stages before counted:\n\n{_staged_levels(data, base, before)}"


def _staged_levels(data: StudyData, base: Row, before: Mapping[str, Cost]) -> str:
    def cost(row: Row, index: int) -> Cost | None:
        steps, time = row.levels[index].mean("steps"), row.levels[index].mean("seconds")
        return None if steps is None or time is None else _sum([Cost(steps, time), before[row.key]])

    rows = []
    for index, level in enumerate(base.levels):
        theirs = cost(base, index)
        for row in data.rows:
            own, ratios = cost(row, index), []
            for unit in ("steps", "seconds"):
                note = row.levels[index].faster[unit].note.replace(BASELINE, "")
                compared = own is not None and theirs is not None and not note and getattr(own, unit) > 0
                ratios.append(f"×{getattr(theirs, unit) / getattr(own, unit):.1f}" if compared else note or NOTHING)
            steps, time = (grouped(own.steps), duration(own.seconds)) if own else (NOTHING, NOTHING)
            where = f"{md(level.metric)} {level.level:g}"
            rows.append([where, md(data.name(row)), steps, ratios[0], time, ratios[1]])
    return table(("level", "variant", "steps", "sooner", "time", "sooner"), rows, "llrrrr")


def runs_csv(rows: Sequence[Row]) -> str:
    """One line per run: state, length, time, and the last value of every metric."""
    runs = [(row, run) for row in rows for run in row.runs]
    names = sorted({name for _, run in runs for name in run.metric_names() if name not in ("epoch", "time")})
    lines = []
    for row, run in runs:
        cost = cost_of(run)
        last = {name: float(values[-1]) for name in names if len(values := run.history(name)[1])}
        about = [run.id, run.variant, row.label, run.seed, row.states.get(run.seed, ""), int(cost.steps), cost.seconds]
        lines.append([*about, row.kind, *(last.get(name) for name in names)])
    return csv_text(["run", "variant", "label", "seed", "state", "steps", "seconds", "loss_kind", *names], lines)


def vector_facts(data: StudyData) -> dict[str, dict[str, Any]]:
    """Row key -> what is known of its vectors."""
    configs = [(row, data.configs[row.key]) for row in data.rows if row.key in data.configs]
    return {row.key: _vector_facts(config, row, data) for row, config in configs if config.target.method == "lsc"}


def vector_table(data: StudyData, facts: Mapping[str, Mapping[str, Any]]) -> str:
    """Per variant the system, its vectors, the share in use, the smallest angle, and the sure loss."""
    rows = []
    for row in (row for row in data.rows if row.key in facts):
        known = facts[row.key]
        near, sure, angle, share = (known.get(key) for key in ("near_in_use", "sure_below", "min_angle_deg", "in_use"))
        low_high = [f"{x:.3g}" if x < 1000 else grouped(round(x)) for x in near or ()]
        cells = [md(row.label), md(str(row.settings.get("target.system"))), grouped(known.get("n"))]
        cells += [grouped(known.get("count")), f"{100 * share:.3g} %" if share is not None else NOTHING]
        cells += [f"{angle:.1f}°" if angle is not None else NOTHING, " to ".join(dict.fromkeys(low_high)) or NOTHING]
        cells += [significant(sure) if row.kind == "c" else NOTHING, spread_text(row.last.get("train/loss"))]
        rows.append([*cells, md(known.get("decode") or NOTHING)])
    head = ["variant", "system", "n", "vectors", "in use", "smallest angle", "classes so near", "sure below"]
    return f"{table([*head, 'train loss', 'exact label'], rows, 'llrrrrrrr')}\n\n{_VECTORS_NOTE}" if rows else ""


def _vector_facts(config: RunConfig, row: Row, data: StudyData) -> dict[str, Any]:
    """What is known of the vectors of a row; those of a table are measured on its rows (of the first seed's)."""
    known, classes = summary(config, data.data_dir), config.data.classes or 0
    if not is_table(config.system) or not 2 <= classes <= _MOST_ROWS:
        return known
    import torch

    from lsc_engine.training.trained_run import build_untrained_head

    try:
        head = build_untrained_head(config, row.runs[0], classes=classes, dim=None)
    except (LscError, OSError):
        return known
    rows = head.centres(torch.arange(classes))
    assert rows is not None
    unit = torch.nn.functional.normalize(rows.float(), dim=1)
    cosines = (unit @ unit.T).fill_diagonal_(-1.0)
    largest = min(1.0, float(cosines.max()))
    near = (cosines >= largest - 1e-6).sum(1)
    sure, angle = 1 - math.sqrt((1 + largest) / 2), math.degrees(math.acos(largest))
    return known | {"sure_below": sure, "min_angle_deg": angle, "near_in_use": [int(near.min()), int(near.max())]}


def layer_tables(data: StudyData, sizes: Sizes) -> list[str]:
    """Tables of what fixed layers save, of accuracies by layer, and of collapse; none without such runs."""

    def last_values(names: Mapping[str, str], scale: float) -> str:
        """A table of the last values of metrics, name -> title, for the rows that have one."""
        rows = [
            [md(row.label), *(spread_text(row.last.get(name), scale) for name in names)]
            for row in data.rows
            if any(name in row.last for name in names)
        ]
        return table(("variant", *names.values()), rows, "l" + "r" * len(names))

    parts = [(_savings(data, sizes), "")]
    for split, words in (("train", "training"), ("val", "validation")):
        count = max((_layers(row, split) for row in data.rows), default=0)
        names = {f"{split}/ncc_{layer}": str(layer) for layer in range(1, count + 1)}
        title = f"Nearest class centre, % of {words} images, by layer; the last is the output:"
        parts.append((last_values(names, 100), title))
    parts.append((last_values({f"train/{name}": title for name, title in _COLLAPSE.items()}, 1), _COLLAPSE_NOTE))
    return [f"{title}\n\n{text}".lstrip() for text, title in parts if text]


def _layers(row: Row, split: str) -> int:
    return max((int(m[2]) for name in row.last if (m := _LAYER.fullmatch(name)) and m[1] == split), default=0)


def _trained_parameters(row: Row, sizes: Sizes) -> float:
    """The parameters that are trained at the end, mean over seeds; not a number if that is unknown."""
    known = sizes.get(row.key, {})
    total = float(known.get("parameters", math.nan)) + float(known.get("head_parameters", math.nan))
    return row.last.get("model/parameters", (total,))[0]


def _savings(data: StudyData, sizes: Sizes) -> str:
    if not any(config.model.etf_layers is not None for config in data.configs.values()):
        return ""
    whole = _trained_parameters(data.baseline, sizes) if data.baseline is not None else math.nan
    rows = []
    for row in data.rows:
        config, now = data.configs.get(row.key), _trained_parameters(row, sizes)
        fixed, moments, when = NOTHING, math.nan, NOTHING
        if config is not None:
            moments = {"sgd": 1, "adamw": 2}.get(config.optimizer.name, math.nan)
            if config.model.etf_layers is not None:
                fixed = md(f"{config.model.etf_layers}, {config.model.etf_frame}")
        if any(FIXED in run.metric_names() for run in row.runs):
            seeds = [", ".join(f"{count:.0f} at {place_text(at)}" for count, at in _fixings(run)) for run in row.runs]
            when = "layers at epoch: " + "; ".join(text or "never" for text in seeds)
        known = math.isfinite(now / whole) and row is not data.baseline
        share = f"{100 * (now / whole - 1):+.1f} %" if known else NOTHING
        rows.append([md(row.label), fixed, md(when), grouped(now), share, size(4 * moments * now)])
    head = ("variant", "fixed layers, frame", "fixed while training", "parameters trained", "change", "optimizer state")
    return table(head, rows, "lllrrr")


def _fixings(run: Run) -> list[tuple[float, float]]:
    _, counts, epochs, _ = run.axes(FIXED)
    return [(float(counts[i]), float(epochs[i])) for i in layers_fixed(counts)]


def layer_figures(rows: Sequence[Row]) -> list[figures.Figure]:
    """One figure a variant: the accuracy of every layer against epochs, mean and range over seeds."""
    from lsc_engine.report import figures

    found = []
    for row in rows:
        series = []
        for layer in range(1, _layers(row, "train") + 1):
            mean = over_seeds(row.runs, f"train/ncc_{layer}")
            if mean.x.size:
                label = f"layer {layer}"
                series += as_series(mean, label=label, colour=layer - 1, scale=100, places=figures.PLACES)
        if not series:
            continue
        fixed = [epoch for run in row.runs if FIXED in run.metric_names() for _, epoch in _fixings(run)]
        # Rounded as the table has it.
        marks = sorted({float(place_text(epoch)) for epoch in fixed})
        document = figures.curve_document("epoch", "nearest class centre (%)", series) | {"marks": marks}
        title = f"{plain(row.label)}: training images nearest their own class's centre, by layer"
        title += "; upright: layers were fixed" if marks else ""
        found.append(figures.Figure(f"ncc-{figures.file_word(row.variant)}", title, document))
    return found


def snapshots_of(run: Run) -> list[Snapshot]:
    """Up to MOMENTS snapshots spread over the training, the first and the last among them; damaged ones are skipped."""
    listed, found = list_snapshots(run.path), list[Snapshot]()
    for place in np.unique(np.linspace(0, len(listed) - 1, min(MOMENTS, len(listed))).round().astype(int)):
        with contextlib.suppress(UnreadableError):
            found.append(read_snapshot(listed[int(place)][1]))
    return found


def add_embeddings(data: StudyData, page: Page) -> None:
    """Figures of the first seed of every variant: embeddings over training if n <= 3, else cosines at the end."""
    from lsc_engine.report import figures

    angles: list[tuple[str, Angles]] = []
    for row in data.rows:
        shots = snapshots_of(row.runs[0])
        points = [shot for shot in shots if isinstance(shot, Points) and shot.n in (2, 3)]
        if points and points[0].classes > _MANY_CLASSES and len(points) > 2:
            points = [points[0], points[len(points) // 2], points[-1]]
        if points:
            name = f"embeddings-{figures.file_word(row.variant) or 'run'}"
            where = "in the plane" if points[0].n == 2 else "on the sphere"
            title = f"{row.label}: embeddings {where} over training, class means as diamonds, centres as crosses"
            files = figures.draw_points(points, plain(row.label), page.folder, name)
            page.add_figure("Embeddings", title, files)
        elif shots and isinstance(shots[-1], Angles):
            angles.append((plain(row.label), shots[-1]))
    if angles:
        title = "Cosines of images to their own centre and to the nearest other one, at the end"
        files = figures.draw_angles(angles, page.folder)
        page.add_figure("Embeddings", title, files, "; the dashed line is half the smallest angle")


DEFAULT_MARK = "ours: default"
# Settings that say when things are measured, not what is trained; shown if they are marked or differ.
_LOOKING = ("log.", "checkpoint.", "eval.", "train.compile")
_BY_ITSELF = ("eval.class_means",)


def data_text(data: StudyData) -> str:
    """What was trained on, one line for each data set."""
    lines: dict[str, None] = {}
    for config in data.configs.values():
        own = config.data
        try:
            derived = derive(config, data.data_dir)
            images = f"{'' if derived.counted else 'about '}{grouped(derived.images)}"
            classes, size = derived.classes, derived.image_size
            held = f", {grouped(derived.val_images)} validation images" if derived.val_images else ""
        except LscError:
            images, classes, size, held = "?", own.classes or 0, own.image_size or 0, ""
        unique = "every image its own class (training accuracy is memorisation here)"
        labels = unique if own.labels == "unique" else "the data set's classes"
        other = f", validated on {md(config.eval.dataset)}" if config.eval.dataset else ""
        views = "" if own.augment == "none" else f", augmentation {own.augment}"
        what = f"{images} images of {size} px, {grouped(classes)} classes, {labels}"
        lines[f"{md(own.dataset)}: {what}{held}{other}{views}"] = None
    return bullets(lines)


def setting_table(data: StudyData) -> str:
    """Every setting with its value, per variant where they differ, and its mark: paper, inferred or ours."""
    marks, named = data.provenance(), set[str]()
    with contextlib.suppress(tomllib.TOMLDecodeError):
        raw = tomllib.loads(data.preset.text if data.preset is not None else "")
        named = {key for table in (raw, *raw_variants(raw)) for key in flatten(sections_of(table))}
    tables = {row.label: row.settings for row in data.rows}
    rows = []
    for key in _shown_keys([row.settings for row in data.rows], marks):
        values = {label: settings.get(key) for label, settings in tables.items()}
        parts = key.split(".")
        # Its own mark or its section's, else a choice of the preset or a default.
        sections = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
        mark = next((marks[name] for name in sections if name in marks), "ours" if key in named else DEFAULT_MARK)
        rows.append([_code(key), _value_words(values), md(mark)])
    seeds = sorted({run.seed for row in data.rows for run in row.runs})
    rows.append([_code("seeds"), ", ".join(map(str, seeds)), md(marks.get("seeds", "ours"))])
    return table(("setting", "value", "mark"), rows)


def _code(text: str) -> str:
    """A code span, which a table cell can hold."""
    return f"`{plain(text).replace('`', chr(39)).replace('|', '¦')}`"


def _shown_keys(tables: Collection[Mapping[str, Any]], marks: Mapping[str, str]) -> list[str]:
    order = {setting.key: place for place, setting in enumerate(fields())}

    def shown(key: str) -> bool:
        if key in marks or not any(acts(key, one.get) for one in tables):
            return key in marks
        values = [one.get(key) for one in tables]
        differs = any(value != values[0] for value in values[1:])
        return key not in _BY_ITSELF and (differs or not key.startswith(_LOOKING))

    keys = dict.fromkeys(key for one in tables for key in one)
    return sorted(filter(shown, keys), key=lambda key: (order.get(key, len(order)), key))


def _value_words(values: Mapping[str, Any]) -> str:
    first, *others = values.values()
    if all(value == first for value in others):
        return md(_word(first))
    by_value: dict[str, list[str]] = {}
    for label, value in values.items():
        by_value.setdefault(_word(value), []).append(label)
    return "; ".join(f"{md(value)} ({md(', '.join(labels))})" for value, labels in by_value.items())


def _word(value: Any) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_word, value)) or "none"
    if isinstance(value, int):
        return grouped(value) if abs(value) >= 10_000 else str(value)
    return "none" if value == {} else str(value)


def made_with(data: StudyData) -> str:
    """Where the runs were trained: device, versions of what computed, commit; no name of a machine or a person."""
    found: dict[str, None] = {}
    for run in (run for row in data.rows for run in row.runs):
        versions, code_at, threads = map(run.source.get, ("versions", "code", "threads"))
        parts = [run.status().device or "an unknown device"]
        parts += [f"{threads} CPU threads"] if isinstance(threads, int) and parts[0] == "cpu" else []
        if isinstance(versions, dict):
            parts += [f"{name} {versions[name]}" for name in ("lsc", "torch", "python") if versions.get(name)]
        if isinstance(code_at, dict) and code_at.get("commit"):
            parts.append(f"commit {str(code_at['commit'])[:12]}{' with changes' if code_at.get('dirty') else ''}")
        found[", ".join(parts)] = None
    return bullets(md(line) for line in found)


def sizes(data: StudyData) -> dict[str, dict[str, Any]]:
    """Row key -> parameters of the network and of the class layer; rows that cannot be built here are left out."""
    from lsc_engine.heads.model_sizes import model_sizes

    found: dict[str, dict[str, Any]] = {}
    for key, config in data.configs.items():
        with contextlib.suppress(LscError, ImportError, RuntimeError):
            d = derive(config, data.data_dir)
            found[key] = model_sizes(config, channels=d.channels, size=d.image_size, dim=d.n, classes=d.classes)
    return found
