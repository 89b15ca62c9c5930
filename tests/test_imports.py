"""What is really loaded: viewers, the command line at start, and every torch-free package, in a fresh process."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "timm", "torchvision", "sklearn", "matplotlib", "scipy")
PROBES = {
    "cli": "import lsc_engine.cli; lsc_engine.cli.build_app()",
    "registries": "from lsc_engine.registry import LOSSES, MODELS; assert LOSSES.built_in and MODELS.built_in",
    "config": "from lsc_engine.studies.plan import plan_study; plan_study('demo')",
    "runs": "import lsc_engine.runs.read.run, lsc_engine.runs.folder.writer; from lsc_engine.analysis import compare",
    "studies": "from lsc_engine.studies import prepare, checks, control, detach, fork, runner",
    "charts": "from lsc_engine.charts import chart, scatter",
    "n_min": "from lsc_engine.vectors import n_min; assert n_min('V21', classes=1000) == 14",
    "tui": "import lsc_tui.app, lsc_tui.__main__",
}


@pytest.mark.parametrize("what", PROBES)
def test_nothing_heavy_is_loaded(what: str) -> None:
    code = f"{PROBES[what]}\nimport sys; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_a_deferred_module_is_loaded_when_it_is_used_and_takes_its_own_place() -> None:
    code = (
        "import sys\nfrom lsc_engine.vectors import base, registry\nassert 'torch' not in sys.modules\n"
        "stands_for = base.torch\nassert stands_for.int64 is __import__('torch').int64\n"
        "assert base.torch is sys.modules['torch'] is not stands_for\n"
        "from lsc_engine.common import deferred\ndeferred.import_deferred()\n"
        "assert deferred.Tensor is base.Tensor is base.torch.Tensor and deferred.np is sys.modules['numpy']"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr


def test_help_loads_the_command_line_alone() -> None:
    code = (
        "import sys\nfrom lsc_engine.cli import main\nsys.argv = ['lsc-engine', '--help']\n"
        "try: main()\nfinally: print(*[m for m in sys.modules if '.' not in m], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, "Usage" in done.stdout) == (0, True), done.stderr
    assert {*HEAVY, "numpy", "pydantic", "rich"} & set(done.stderr.split()) == set()
