"""What people type for a setting, and the encodings in which they save it."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsc_engine.common.duration import Duration
from lsc_engine.common.errors import UsageError
from lsc_engine.common.formatting import number
from lsc_engine.common.safe_io import decoded
from lsc_engine.config.load import load_preset
from lsc_engine.config.typed import parse_seeds, parse_sets, parse_sweeps, typed_value
from lsc_engine.studies.plan import plan_study
from lsc_engine.vectors.families.tables import load_table, table_shape
from lsc_tui.data.preset_form import value_words
from tests.config.mutations import base, write


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (".001", 0.001), ("1.", 1.0), ("-.5", -0.5), ("+.5e-2", 0.005), ("1E-4", 1e-4), ("+3", 3), ("1_000", 1000),
        ("1_0.5_0", 10.5), ("007", 7), ("10 240", 10240), ("1 797", 1797), ("−2", -2), ("0x10", 16), ("1.e3", 1000.0),
    ],
)  # fmt: skip
def test_numbers_as_people_and_programs_write_them(text: str, value: float) -> None:
    found = typed_value("optimizer.lr", text)
    assert found == value
    assert type(found) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**18), 10**18))
def test_what_python_and_the_form_print_is_read_back(value: float) -> None:
    assert number(repr(value)) == value
    assert number(f"{value:e}".replace("0.", ".")) is not None
    if isinstance(value, int):
        assert number(value_words(value)) == value


@pytest.mark.parametrize(
    "text", ["", ".", "-", "1..2", "1__0", "_1", "1e", "٣", "²", "1 0", "1 00", "0x", "1,5", "1/3"]
)
def test_texts_that_are_no_numbers(text: str) -> None:
    assert number(text) is None
    assert typed_value("optimizer.weight_decay", text) == text


@pytest.mark.parametrize(
    "text", ["inf", "-inf", "nan", "+nan", "1e999", ".1e400", "Infinity", "NaN", "true", '"1e-3"', "٣"]
)
def test_a_number_is_asked_for_by_its_key(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"optimizer\.lr: a (finite )?number is needed, not"):
        plan_study(write(base(), tmp_path), sets=[f"optimizer.lr={text}"])


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("title", "true", "true"), ("title", "1e5", "1e5"), ("title", "2026-11-01", "2026-11-01"),
        ("title", '"5 epochs"', "5 epochs"), ("source", "[1]", "[1]"), ("train.duration", "5 epochs", "5 epochs"),
        ("train.duration", "'5 epochs'", "5 epochs"), ("train.duration", "5", "5"), ("data.path", "007", "007"),
        ("train.compile", "true", "true"), ("compare.baseline", "384", "384"), ("provenance.train.duration", "1", "1"),
        ("eval.class_means", "True", True), ("eval.class_means", "false", False), ("data.classes", "300k", 300_000),
        ("train.batch_size", "1_024", 1024), ("model.dim", "min", "min"), ("model.dim", "+24", 24),
        ("target.weights", "[.5, 1.]", [0.5, 1.0]), ("target.weights", ".5,2", [0.5, 2]),
        ("model.args.x", "{ a = .5, b = [1., '.5'] }", {"a": 0.5, "b": [1.0, ".5"]}), ("model.args.x", "True", True),
        ("model.args.x", "07:30:00", "07:30:00"), ("checkpoint.also_at", "1 epochs, 9 steps", ["1 epochs", "9 steps"]),
        ("compare.levels.train/loss", ".5,.1", [0.5, 0.1]), ("tune.optimizer.lr", ".1,1.", [0.1, 1.0]),
        ("tune.optimizer.lr", "[.1, 1.]", [0.1, 1.0]), ("tune.duration", "9", "9"), ("seeds", "0-2", [0, 1, 2]),
        ("seeds", "[4, 2]", [4, 2]), ("seed", " 1 ", 1), ("tune.seed", "1_0", 10),
    ],
)  # fmt: skip
def test_a_value_is_read_as_its_setting_needs_it(key: str, text: str, value: Any) -> None:
    found = typed_value(key, text)
    assert found == value
    assert type(found) is type(value)


def test_sweeps_of_numbers_lists_and_texts() -> None:
    assert parse_sweeps(["optimizer.lr=.001,1.,1e-4"]) == [("optimizer.lr", (0.001, 1.0, 1e-4))]
    assert parse_sweeps(["target.weights=[1,.5],[1.,2]"]) == [("target.weights", ([1, 0.5], [1.0, 2]))]
    assert parse_sweeps(["train.duration=.5 epochs,'9 steps'"]) == [("train.duration", (".5 epochs", "9 steps"))]
    assert parse_sweeps(["target.order=shuffled,sequential"]) == [("target.order", ("shuffled", "sequential"))]
    with pytest.raises(UsageError, match=r"^--sweep optimizer\.lr: 0\.001 is given twice$"):
        parse_sweeps(["optimizer.lr=1e-3,0.001"])


@pytest.mark.parametrize(
    ("text", "shown"), [(".5 epochs", "0.5 epochs"), ("1. epochs", "1 epochs"), ("10 000 steps", "10000 steps"),
                        ("+3 epochs", "3 epochs"), ("1_000 examples", "1000 examples"), ("1e3 steps", "1000 steps")],
)  # fmt: skip
def test_durations_take_the_same_numbers(text: str, shown: str) -> None:
    assert str(Duration.parse(text)) == shown


@pytest.mark.parametrize("text", ["1..5 epochs", "-1 epochs", "1 0 steps", "٣ epochs", "inf epochs", ". epochs"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        Duration.parse(text)


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0,1,2", (0, 1, 2)), (" 1", (1,)), ("3 1  2", (3, 1, 2)), ("0-3, 7", (0, 1, 2, 3, 7)), ("1_000", (1000,)),
     ("+3", (3,)), ("007", (7,)), ("5-5", (5,)), (str(2**63 - 1), (2**63 - 1,)), ("[0, 4]", (0, 4))],
)  # fmt: skip
def test_seeds(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text, "--seeds") == seeds


NO_SEEDS = [
    "", "  ", "[]", "²", "٣", "०", "0,0", "1,01", "0-2,1", "-1", "1-", "3-1", "0-1000", "0,,1", "0,", "1.0", "1e3", "a",
    "true", "9" * 5000, str(2**63), "1__0", "_1", "0x1", "−1",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_SEEDS, ids=lambda text: text[:8])
def test_what_is_no_list_of_seeds_is_one_sentence_with_its_key(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"^--seeds: ") as caught:
        parse_seeds(text, "--seeds")
    assert len(caught.value.faults) == 1
    assert len(str(caught.value)) < 200
    for key in ("seeds", "seed", "tune.seed"):
        with pytest.raises(UsageError, match=rf"^--set {key}: "):
            parse_sets([f"{key}={text}"])


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("lr", 'did you mean "optimizer.lr"?'),
        ("target.lr", 'did you mean "optimizer.lr"?'),
        ("seedz", 'did you mean "seed"?'),
        ("data.clases", 'did you mean "data.classes"? Allowed'),
        ("variants", "settings are written like optimizer.lr"),
    ],
)
def test_a_name_that_no_setting_has_gets_the_nearest(key: str, hint: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"--set {key}: no setting has this name; {hint}")):
        parse_sets([f"{key}=3"])


@pytest.mark.parametrize("seeds", ["[0, 0]", "[]", "[-1]", '["²"]', "[1.0]", "[true]", f"[{2**63}]", '"0-2"'])
def test_the_seeds_of_a_preset(tmp_path: Path, seeds: str) -> None:
    path = write({**base(), "seeds": []}, tmp_path)
    path.write_text(path.read_text().replace("seeds = []", f"seeds = {seeds}"))
    with pytest.raises(UsageError, match="seeds") as caught:
        load_preset(path)
    assert len(caught.value.faults) == 1


# ------------------------------------------------------------------------------------------------------- Encodings


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_byte_order_mark_is_no_part_of_a_preset(tmp_path: Path, ends: str) -> None:
    plain = write(base(), tmp_path)
    marked = tmp_path / "marked.toml"
    marked.write_bytes(codecs.BOM_UTF8 + plain.read_text().replace("\n", ends).encode())
    assert load_preset(marked).variants == load_preset(plain).variants
    assert not plan_study(marked).to_toml().startswith("\ufeff")


@pytest.mark.parametrize(
    ("encoding", "named"),
    [
        ("utf-16", "UTF-16"), ("utf-16-le", "UTF-16"), ("utf-16-be", "UTF-16"), ("utf-32", "UTF-32"),
        ("utf-32-be", "UTF-32"), ("latin-1", "Latin-1"), ("cp1252", "Windows-1252"),
    ],
)  # fmt: skip
def test_another_encoding_is_named(tmp_path: Path, encoding: str, named: str) -> None:
    path = tmp_path / "other.toml"
    path.write_bytes(('title = "Größe"\n' + write(base(), tmp_path).read_text().partition("\n")[2]).encode(encoding))
    with pytest.raises(UsageError) as caught:
        load_preset(path)
    (sentence,) = caught.value.faults
    assert sentence.startswith(f"{path}: is ")
    assert named in sentence
    assert sentence.endswith("save it as UTF-8")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_utf_8_is_never_taken_for_another_encoding(text: str) -> None:
    # A text of many zeros is none.
    if text.count("\0") * 4 < len(text) and not text.startswith(("\ufeff", "\ufffe")):
        assert decoded(text.encode()) == text
        assert decoded(codecs.BOM_UTF8 + text.encode()) == text


def test_vectors_in_a_csv_file_with_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(codecs.BOM_UTF8 + b"1,0\r\n0,1\r\n")
    assert table_shape(path) == (2, 2)
    assert np.array_equal(load_table(path).numpy(), np.eye(2, dtype=np.float32))
    path.write_text("1,0\n0,1\n", encoding="utf-16")
    for read in (table_shape, load_table):
        with pytest.raises(UsageError, match="is UTF-16 text; save it as UTF-8"):
            read(path)
