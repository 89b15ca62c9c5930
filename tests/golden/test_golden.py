"""Presets resolve to the same settings and are refused for the same reasons as when the golden files were stored.

After a change that is meant to alter them: `python -m tests.golden`.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from lsc_engine.studies.plan import plan_study
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


def test_a_preset_is_parsed_once_and_each_variant_validated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = {"parsed": 0, "validated": 0}

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            calls[name] += 1
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(tomllib, "loads", counted("parsed", tomllib.loads))
    monkeypatch.setattr(BaseModel, "__init__", counted("validated", BaseModel.__init__))
    validate = counted("validated", BaseModel.model_validate.__func__)  # type: ignore[attr-defined]
    monkeypatch.setattr(BaseModel, "model_validate", classmethod(validate))
    plan = plan_study("lsc-2025/fig9-mini")
    assert (len(plan.runs), plan.tune is not None) == (12, True)
    assert calls["parsed"] == 1
    assert calls["validated"] <= 60, calls
