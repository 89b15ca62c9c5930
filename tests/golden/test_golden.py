"""Presets resolve to the same settings and are refused for the same reasons as when the golden files were stored.

After a change that is meant to alter them: `python -m tests.golden`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.golden.generate import DOCUMENTS, FOLDER


@pytest.mark.parametrize("name", DOCUMENTS)
def test_golden(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LSC_DATA", "LSC_PRESETS", "LSC_RUNS", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    stored = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    found = json.loads(json.dumps(DOCUMENTS[name]()))
    assert found.keys() == stored.keys()
    differing = {key: (stored[key], found[key]) for key in stored if stored[key] != found[key]}
    assert not differing
