"""The benchmarks of the project by name: what each measures, how it is loaded, and what it answers.

The code of a benchmark is benchmarks/NAME.py of a source tree, `lsc_engine/benchmarks` of an installed wheel; each has
`run(*, quick=False, **arguments) -> Result`. Nothing heavy is imported before one is run.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import os
import platform
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from lsc_engine import __version__
from lsc_engine.common.errors import LscError, UsageError, did_you_mean
from lsc_engine.common.formatting import counted, grouped
from lsc_engine.common.hardware import memory_total

NAMES = {
    "head": "time and memory of the head from 10^3 to 10^9 classes, beside dense, chunked and sampled cross-entropy",
    "decode": "the exact label at 1.28 million classes against an exhaustive search, and its share of an evaluation",
    "loop": "our training step against a loop written by hand",
    "loader": "training at 32 px end to end against the same steps without loading",
    "vit": "ViT-S/16 at 224 px in bf16 on one GPU, LSC and CE, beside timm's recipe",
    "memory": "model memory and largest batch against the number of classes, LSC and cross-entropy, ViT-B",
    "evaluation": "what evaluation costs beside training, the label in it, and how exact its accuracy is",
    "systems": "vectors from their index against rows of a dense table, and the loss path without rows",
    "assign": "time and memory of nearest:init at 1.28 million classes, and how near the optimum it comes",
    "logging": "what metrics, status and heartbeats cost a small training",
    "mirrors": "what log.also costs a small training, in processor and wall time",
    "profile": "where the time of a training step goes, the least it could take, and the distance from it",
    "startup": "lsc-engine --help, and the first frame of lsc-tui with 100 runs",
    "chart": "a full redraw of a chart: ten series of 10^5 points, one of 10^6",
    "tui": "lsc-tui from outside: idle, live, with a thousand runs, with a million lines",
    "foreign": "logs of other tools with a million records: first curve, keys meanwhile, the whole of them",
}
"""Every benchmark with what it measures."""

PACKAGE = "lsc_engine.benchmarks"
# Called with every row as soon as it is measured.
_on_row: ContextVar[Callable[[dict[str, Any]], None] | None] = ContextVar("_on_row", default=None)
# A module of the standard library's name would hide that one from scripts that lie beside it.
MODULES = {"logging": "run_folder", "profile": "profiling"}


@dataclass(frozen=True)
class Check:
    """One figure beside its bar. `reached` is None where it cannot be measured on this machine."""

    what: str
    figure: str
    bar: str
    reached: bool | None

    @property
    def verdict(self) -> str:
        return {True: "reached", False: "NOT reached", None: "not measured here"}[self.reached]


class Rows(list[dict[str, Any]]):
    """Rows of a table, each reported when it is appended: a benchmark that is stopped loses none of them."""

    def append(self, row: dict[str, Any]) -> None:
        super().append(row)
        if (report := _on_row.get()) is not None:
            report(row)


@dataclass(frozen=True)
class Table:
    """Rows of equal keys, under a title."""

    title: str
    rows: Sequence[dict[str, Any]]

    def markdown(self) -> str:
        if not self.rows:
            return ""
        head = list(self.rows[0])
        lines = [head, ["---"] * len(head), *([shown(row.get(key)) for key in head] for row in self.rows)]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


@dataclass(frozen=True)
class Result:
    """What a benchmark found. Figures are ratios of sides alternated in one process unless a row says otherwise."""

    name: str
    checks: Sequence[Check]
    tables: Sequence[Table]
    notes: Sequence[str] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    """Further files that `--out` writes beside the page: name -> text."""
    command: str = ""
    machine: dict[str, str] = field(default_factory=lambda: machine())

    @property
    def title(self) -> str:
        """What was measured, in one line."""
        return NAMES.get(self.name, self.name)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the first table; the checks if it has no table."""
        return [dict(row) for row in (self.tables[0] if self.tables else self.checks_table()).rows]

    @property
    def verdict(self) -> str:
        """ "reached", "NOT reached" or "not measured here"; the worst of all checks counts."""
        answers = [c.reached for c in self.checks]
        return Check("", "", "", False if False in answers else True if True in answers else None).verdict

    def checks_table(self) -> Table:
        rows = [{"what": c.what, "figure": c.figure, "bar": c.bar, "verdict": c.verdict} for c in self.checks]
        return Table("", rows)

    def markdown(self) -> str:
        """The whole as a Markdown page: checks, tables, notes, machine, versions, command."""
        parts = [f"# {self.name}", f"{self.title[:1].upper()}{self.title[1:]}.", self.checks_table().markdown()]
        for table in self.tables:
            parts += [f"## {table.title}", table.markdown()]
        facts = ", ".join(f"{value}" if key == "cpu" else f"{key} {value}" for key, value in self.machine.items())
        measured = f"Measured by `{self.command or 'lsc-engine bench ' + self.name}` on {facts}."
        return "\n\n".join(part for part in [*parts, *self.notes, measured] if part) + "\n"

    def document(self) -> dict[str, Any]:
        """The whole as plain values."""
        return {
            "name": self.name,
            "title": self.title,
            "verdict": self.verdict,
            "checks": self.checks_table().rows,
            "tables": [{"title": table.title, "rows": list(table.rows)} for table in self.tables],
            "notes": list(self.notes),
            "machine": self.machine,
            "command": self.command,
        }


def shown(value: Any) -> str:
    """A cell: numbers with three or four digits, thin groups of thousands, `-` for none."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return grouped(value)
    return f"{value:.3g}"


def check_names(*names: str) -> None:
    """UsageError if there is no benchmark of one of these names."""
    for name in names:
        if name not in NAMES:
            raise UsageError(f'bench: there is no benchmark "{name}"; {did_you_mean(name, NAMES)}')


def run(
    name: str,
    *,
    quick: bool = False,
    device: str | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
    **arguments: Any,
) -> Result:
    """Run the benchmark `name`. `quick`: tiny sizes, to see that it works; its figures mean nothing. `device`: as of
    --device, None for its own choice; those of the terminal app have none. `on_row`: called with each row of a table
    as soon as it is measured.

    UsageError for unknown names and arguments; LscError where the sides that are compared do not give the same.
    """
    check_names(name)
    # torch's profiler, which counts memory, would greet on stderr.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    function = load(name).run
    known = {key: value.default for key, value in inspect.signature(function).parameters.items() if key != "quick"}
    for key in arguments:
        if key not in known:
            hint = did_you_mean(key, known) if known else "it takes none"
            raise UsageError(f'bench {name}: "{key}" is not an argument of it; {hint}')
    hints = get_type_hints(function)
    for key, value in arguments.items():
        try:
            arguments[key] = TypeAdapter(hints[key], config={"coerce_numbers_to_str": True}).validate_python(value)
        except ValidationError:
            kind = inspect.formatannotation(hints[key])
            raise UsageError(f"bench {name}: {key} takes a value of type {kind}, not {value!r}") from None
    if "device" in known:
        import torch

        from lsc_engine.training.devices import pick_device

        chosen = pick_device(device or arguments.get("device", known["device"]))
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)
            chosen = torch.device("cuda", torch.cuda.current_device())
        arguments["device"] = str(chosen)
    token = _on_row.set(on_row)
    try:
        result: Result = function(quick=quick, **arguments)
    finally:
        _on_row.reset(token)
    return result


def load(name: str) -> Any:
    """The module of the benchmark (or of what benchmarks share) called `name`."""
    package()
    return importlib.import_module(f"{PACKAGE}.{MODULES.get(name, name)}")


def package() -> Any:
    """The benchmarks as the package `lsc_engine.benchmarks`, wherever their files are."""
    if PACKAGE not in sys.modules:
        here = Path(__file__).resolve().parent
        places = [
            place for place in (here / "benchmarks", here.parent / "benchmarks") if (place / "__init__.py").is_file()
        ]
        if not places:
            raise LscError("bench: the benchmarks are not installed; use a source tree or the wheel")
        start, search = places[0] / "__init__.py", [str(places[0])]
        spec = importlib.util.spec_from_file_location(PACKAGE, start, submodule_search_locations=search)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[PACKAGE])
    return sys.modules[PACKAGE]


def machine(*packages: str) -> dict[str, str]:
    """What the figures were measured on: processor, cores in use, memory, GPU, versions. No names of hosts."""
    cores, cpu = len(os.sched_getaffinity(0)), platform.machine() or "unknown processor"
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        cpu = f"{next(line.partition(':')[2].strip() for line in lines if line.startswith('model name'))} ({cpu})"
    facts = {
        "cpu": f"{cpu}, {counted(cores, 'core')}",
        "memory": f"{memory_total() / 2**30:.0f} GB",
        "Python": platform.python_version(),
        "lsc": __version__,
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        facts |= {"torch": torch.__version__, "threads": str(torch.get_num_threads())}
        if torch.cuda.is_available():
            facts["GPU"] = torch.cuda.get_device_name()
    for name in packages:
        try:
            facts[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            facts[name] = "not installed"
    return facts


def command_line(name: str, quick: bool, device: str | None, arguments: dict[str, Any]) -> str:
    """The command that repeats a benchmark."""
    words = ["lsc-engine", "bench", name, *(["--quick"] if quick else []), *(["--device", device] if device else [])]
    for key, value in arguments.items():
        words += ["--set", f"{key}={value}"]
    return shlex.join(words)
