"""Registries: built-in classes are found by their files, plugins by name, without running them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lsc_engine.common.errors import UsageError
from lsc_engine.registry import LOSSES, MODELS, Registry


def test_backbones_and_losses_come_in_the_order_of_their_files() -> None:
    assert list(MODELS.built_in) == ["encoder", "mlp", "vit-s", "vit-b"]
    assert list(LOSSES.built_in) == [
        "cosine", "distance", "dot", "softmax", "batch-softmax", "squared", "cosine+distance",
    ]  # fmt: skip


def test_a_new_file_in_the_folder_is_all_that_a_built_in_class_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry[type]("losses", "fresh_losses")
    monkeypatch.setattr("lsc_engine.registry.FRESH", registry, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "fresh_losses"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "huber.py").write_text(
        'from lsc_engine.registry import FRESH\n\n@FRESH.register("huber", "smooth")\nclass Huber: ...\n'
    )
    assert list(registry.built_in) == ["huber", "smooth"]
    assert registry.built_in["huber"].__name__ == "Huber"


def test_a_plugin_is_loaded_by_name_and_never_by_a_viewer(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry[type]("losses", "lsc_engine.heads.losses")
    registry.factories["mine"] = dict
    assert registry.plugin_names() == ["mine"]
    assert registry.load_plugin("mine", "target.loss") is dict
    with pytest.raises(UsageError, match='no plugin offers "other"'):
        registry.load_plugin("other", "target.loss")
    monkeypatch.setattr(Registry, "names_only", True)
    with pytest.raises(UsageError, match='"mine" comes from a plugin, and viewers run none'):
        registry.load_plugin("mine", "target.loss")
