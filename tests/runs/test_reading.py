"""Finding and reading runs: ids, states as seen from here, hostile folders, a thousand runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.runs.folder import layout
from lsc_engine.runs.folder import process as host_module
from lsc_engine.runs.folder.status import Status, clock_offset, read_status, write_status
from lsc_engine.runs.folder.writer import RunWriter
from lsc_engine.runs.read import notes
from lsc_engine.runs.read.run import list_runs, open_run, short_ids
from tests.counting import bytes_read, files_opened

from .conftest import MakeRun


def running(**changes: object) -> Status:
    """A status as a live process of this machine would write it."""
    who = host_module.this_process()
    status = Status(
        state="running", host=who.host, machine=who.machine, boot_id=who.boot_id, pid=who.pid,
        pid_start=who.pid_start, pid_namespace=who.pid_namespace, heartbeat=time.time(), pace=1.0, step_seconds=0.3,
    )  # fmt: skip
    return replace(status, **changes)  # type: ignore[arg-type]


def aged(folder: Path, status: Status, seconds: float) -> Status:
    """Write the status as if `seconds` ago, and judge it from here."""
    write_status(folder, replace(status, heartbeat=time.time() - seconds))
    then = time.time() - seconds
    os.utime(folder / "status.json", (then, then))
    return open_run(folder).status()


def test_states_as_seen_from_here(make_run: MakeRun) -> None:
    folder = make_run()
    assert aged(folder, running(), 1).shown_state == "running"
    assert aged(folder, running(boot_id="another boot"), 1).shown_state == "lost"
    assert aged(folder, running(pid=2**22 - 1), 1).shown_state == "lost"
    assert aged(folder, running(pid_start=1.0), 1).shown_state == "lost"
    assert aged(folder, running(), 600).shown_state == "stalled"
    assert aged(folder, running(pace=100.0), 600).shown_state == "running"
    # Reading data and compiling take long without a heartbeat: the process touches the lock file while it lives.
    (folder / ".lock").write_text("{}")
    for status in (running(state="starting"), running(step_seconds=None)):
        assert aged(folder, status, 600).shown_state == status.state
    then = time.time() - 600
    os.utime(folder / ".lock", (then, then))
    assert aged(folder, running(state="starting"), 600).shown_state == "stalled"
    for state in ("finished", "stopped", "failed", "diverged"):
        assert aged(folder, running(state=state, pid=2**22 - 1), 1e6).shown_state == state


def test_a_queued_run_is_lost_with_the_process_that_was_to_train_it(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run()
    assert aged(folder, running(state="queued"), 1e6).shown_state == "queued"
    assert aged(folder, running(state="queued", pid=None), 1e6).shown_state == "queued"
    # Of another machine it cannot be told.
    assert aged(folder, running(state="queued", host="gpu12", boot_id="other", pid=1), 1e6).shown_state == "queued"
    for gone in (running(state="queued", pid=2**22 - 1), running(state="queued", boot_id="another boot")):
        assert aged(folder, gone, 1).shown_state == "lost"
    log = tmp_path / "runs/.launch/group.study.log"
    log.parent.mkdir()
    log.write_text("starting\nMemoryError: cannot allocate\n\n")
    status = open_run("group/study/a/seed-0", [tmp_path / "runs"]).status()
    assert status.news.endswith("is gone; its log ends: MemoryError: cannot allocate")


def test_another_host_is_stalled_never_lost(make_run: MakeRun) -> None:
    folder = make_run()
    elsewhere = running(host="gpu12", boot_id="other", pid=1)
    assert aged(folder, elsewhere, 1).shown_state == "running"
    status = aged(folder, elsewhere, 14 * 60)
    assert status.shown_state == "stalled"
    assert status.news == "no news for 14 min, its steps take 0.3 s. Cannot see host gpu12 from here"
    # A machine of the same name but another machine id, and another container on this machine, cannot be asked either.
    if host_module.machine_id():
        assert aged(folder, running(machine="0" * 12, boot_id="other"), 1).shown_state == "running"
    assert aged(folder, running(pid_namespace="pid:[1]", pid=2**22 - 1), 1).shown_state == "running"


def test_a_wrong_clock_elsewhere_does_not_matter(make_run: MakeRun) -> None:
    folder = make_run()
    write_status(folder, running(host="gpu12", heartbeat=time.time() - 86_400))
    assert open_run(folder).status().shown_state == "running"
    assert abs(clock_offset(folder)) < 5
    assert not list(folder.glob(".clock*"))


def test_finding(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "runs"
    for variant in ("n=384", "n_min"):
        for seed in (0, 1):
            make_run(study="lsc/fig9", variant=variant, seed=seed)
    make_run(study="demo", variant="a")
    runs = list_runs([root])
    assert [run.id for run in runs] == [
        "demo/a/seed-0", "lsc/fig9/n=384/seed-0", "lsc/fig9/n=384/seed-1", "lsc/fig9/n_min/seed-0",
        "lsc/fig9/n_min/seed-1",
    ]  # fmt: skip
    assert (runs[1].study, runs[1].variant, runs[1].seed) == ("lsc/fig9", "n=384", 0)
    for run in runs:
        assert open_run(run.id, [root]).path == run.path
        assert open_run(short_ids(runs)[run.id], [root]).id == run.id
        assert open_run(str(run.path), [root]).id == run.id
        assert open_run(run.path, ["/nowhere"]).id == run.id
    assert open_run("n_min/seed-1", [root]).id == "lsc/fig9/n_min/seed-1"
    with pytest.raises(UsageError, match=r"names 2 runs: .*n_min/seed-0.*n_min/seed-1"):
        open_run("n_min", [root])
    with pytest.raises(UsageError, match="the nearest of 5 runs: demo/a"):
        open_run("demo/b/seed-0", [root])
    for bad in ("", "..", "/etc", "\x1b[2J", "../runs/demo/a/seed-0"):
        with pytest.raises(UsageError):
            open_run(bad, [root])
    monkeypatch.chdir(tmp_path)
    assert open_run("runs/demo/a/seed-0").id == "demo/a/seed-0"
    assert open_run("demo").id == "demo/a/seed-0"
    monkeypatch.setenv("LSC_RUNS", str(root))
    monkeypatch.chdir("/")
    assert open_run("demo").id == "demo/a/seed-0"


def linked(make_run: MakeRun, tmp_path: Path) -> tuple[Path, Path]:
    """A runs folder with links in it, and a run of its own."""
    inside = make_run(study="s", variant="a")
    outside = make_run(root=tmp_path / "other", study="s", variant="b")
    root = tmp_path / "runs"
    (root / "s/b").symlink_to(outside.parent)
    (root / "s/c").symlink_to(inside.parent)
    (root / "moved").symlink_to(outside.parent.parent)
    (root / "s/a/seed-7").symlink_to(outside)
    (root / "loop").symlink_to(root)
    (root / "gone").symlink_to(tmp_path / "not-mounted")
    return root, inside


LOOPS = [
    "gone is a link to {0}/not-mounted, which is not there",
    "loop leads through a link to {0}/runs, which holds it",
]


def test_own_links_are_followed_and_others_are_reported(make_run: MakeRun, tmp_path: Path) -> None:
    root, inside = linked(make_run, tmp_path)
    passed: list[str] = []
    found = ["moved/b/seed-0", "s/a/seed-0", "s/a/seed-7", "s/b/seed-0", "s/c/seed-0", "s/c/seed-7"]
    assert [run.id for run in list_runs([root], passed)] == found
    assert passed == [text.format(tmp_path) for text in LOOPS]
    assert open_run("moved/b/seed-0", [root]).status().shown_state == "queued"
    with pytest.raises(UsageError, match="loop leads through a link"):
        open_run("loop/s/a/seed-0", [root])
    with pytest.raises(UsageError, match=r"does not lie in .*, but in .*other/s/b/seed-0"):
        notes.move_to_trash(root, "moved/b/seed-0", root / "moved/b/seed-0")
    (tmp_path / "link").symlink_to(root)
    assert len(list_runs([tmp_path / "link"])) == len(found)
    (inside / "status.json").unlink()
    (inside / "status.json").symlink_to("/etc/passwd")
    status = open_run(inside).status()
    assert (status.shown_state, status.message) == ("unreadable", "status.json is a link")
    with pytest.raises(UsageError):
        layout.inside(root, "../x")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files for other users")
def test_links_of_another_user_that_lead_out_are_not_followed(make_run: MakeRun, tmp_path: Path) -> None:
    root, _ = linked(make_run, tmp_path)
    for path in root.rglob("*"):
        if path.is_symlink():
            os.lchown(path, 12345, 12345)
    passed: list[str] = []
    # A link within the folder shows nothing that is not there anyway.
    assert [run.id for run in list_runs([root], passed)] == ["s/a/seed-0", "s/c/seed-0"]
    for name in ("moved", "s/b", "s/a/seed-7"):
        (sentence,) = [text for text in passed if text.startswith(f"{name} ")]
        assert f"{name} leads out through a link to {tmp_path}/other/s" in sentence
        assert "which another user has made" in sentence
    for name in ("moved/b/seed-0", "s/b/seed-0", "s/a/seed-7"):
        with pytest.raises(UsageError, match="leads out through a link"):
            open_run(name, [root])
        with pytest.raises(UsageError, match="leads out through a link"):
            layout.run_folder(root, name)


def test_what_holds_runs_and_is_not_listed_is_reported(make_run: MakeRun, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    make_run(study="s", variant="a")
    for place in ("s/a/attempt two", "s/b/run-1", "seed-3", "old (2024)/a/seed-0", "Größe/x/seed-0", "$x/a/seed-0"):
        (root / place).mkdir(parents=True)
        (root / place / "preset.toml").touch()
    (root / "s/report/figures and tables").mkdir(parents=True)
    (root / "latest.log").symlink_to("nowhere.log")
    (root / "notes.txt").symlink_to(__file__)
    passed: list[str] = []
    assert [run.id for run in list_runs([root], passed)] == ["Größe/x/seed-0", "old (2024)/a/seed-0", "s/a/seed-0"]
    assert open_run("old (2024)/a/seed-0", [root]).study == "old (2024)"
    assert sorted(text.partition(" has ")[0] for text in passed if " has " in text) == [
        "$x", "s/a/attempt two", "s/b/run-1", "seed-3",
    ]  # fmt: skip
    assert [text for text in passed if " has " not in text] == [
        f"latest.log is a link to {root}/nowhere.log, which is not there"
    ]


def test_short_ids_are_as_long_as_needed() -> None:
    assert layout.short_ids([]) == {}
    ids = [f"s/v/seed-{i}" for i in range(3000)]
    short = layout.short_ids(ids)
    assert len(set(short.values())) == 3000
    assert all(layout.digest(i).startswith(s) and len(s) >= 4 for i, s in short.items())
    assert max(map(len, short.values())) > 4


def test_damaged_files_give_a_sentence(make_run: MakeRun) -> None:
    folder = make_run()
    for content, sentence in (
        (b"{", "status.json is not JSON (line 1)"),
        (b"\xff\xfe\x00", "status.json is not text"),
        (b"[1]", "status.json is not a JSON object"),
        (b"[" * 200_000, "status.json is nested too deeply"),
        (b'{"state": "dancing"}', "status.json: state 'dancing' is unknown"),
        (b'{"state": ["running"], "pid": 1e999}', "status.json: state \"['running']\" is unknown"),
        (b" " * (2 << 20), "status.json is larger than 1048576 bytes"),
    ):
        (folder / "status.json").write_bytes(content)
        status = open_run(folder).status()
        assert (status.shown_state, status.message) == ("unreadable", sentence)
    (folder / "status.json").unlink()
    os.mkfifo(folder / "status.json")
    assert open_run(folder).status().message == "status.json is not a regular file"
    (folder / "preset.toml").write_bytes(b"a = [[[[")
    run = open_run(folder)
    assert run.config == {}
    assert run.loss_kind == "?"
    assert "preset.toml is not TOML" in str(run.config_problem)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_STATUS_KEYS = sorted(Status.__dataclass_fields__)
hostile_status = st.dictionaries(st.sampled_from(_STATUS_KEYS), json_values).flatmap(
    lambda d: st.sampled_from(["running", "finished", "starting", "x"]).map(lambda state: {**d, "state": state})
)
hostile_file = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200).map(lambda t: t.encode("utf-8", "surrogatepass")),
    json_values.map(lambda v: json.dumps(v).encode()),
    st.fixed_dictionaries({"notes": json_values, "tags": json_values}).map(lambda v: json.dumps(v).encode()),
    hostile_status.map(lambda v: json.dumps(v).encode()),
)
FILES = ("status.json", "preset.toml", "source.json", "metrics.jsonl", "notes.json", "log.txt")


@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=st.fixed_dictionaries({}, optional=dict.fromkeys(FILES, hostile_file)), manifest=hostile_file)
def test_hostile_folders_never_raise(tmp_path: Path, contents: dict[str, bytes], manifest: bytes) -> None:
    folder = tmp_path / "runs/s/v/seed-0"
    (folder / "checkpoints/step-00000001").mkdir(parents=True, exist_ok=True)
    (folder / "checkpoints/step-00000001/manifest.json").write_bytes(manifest)
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
        if name in contents:
            (folder / name).write_bytes(contents[name])
    (run,) = list_runs([tmp_path / "runs"])
    status = run.status()
    assert isinstance(status.news, str)
    assert all(isinstance(tag, str) and tag.isprintable() for tag in run.tags)
    for name in run.metric_names():
        steps, values = run.history(name)
        assert len(steps) == len(values) > 0
    for value in (run.config, run.source, run.last(), run.notes, run.label, run.loss_kind):
        assert value is not None
    (checkpoint,) = run.checkpoints()
    assert checkpoint.problem or checkpoint.files


def test_notes_tags_and_trash(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run()
    run = open_run(folder, [tmp_path / "runs"])
    notes.add_note(folder, "slow, but good")
    notes.add_tag(folder, "keep")
    notes.add_tag(folder, "keep")
    assert [note.text for note in run.notes] == ["slow, but good"]
    assert run.tags == ["keep"]
    notes.remove_tag(folder, "keep")
    assert run.tags == []
    for bad in ("", "a b", "a,b", "\x1b[2J", "-x"):
        with pytest.raises(UsageError):
            notes.add_tag(folder, bad)
    with pytest.raises(UsageError):
        notes.add_note(folder, "\x1b]52;c;evil\x07")
    (folder / "notes.json").write_text("{")
    with pytest.raises(LscError, match="not JSON"):
        notes.add_note(folder, "lost?")
    assert run.root is not None
    place = notes.move_to_trash(run.root, run.id, run.path)
    assert (place / "preset.toml").is_file()
    assert list_runs([tmp_path / "runs"]) == []
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == [".trash"]
    with pytest.raises(UsageError, match="does not lie in"):
        notes.move_to_trash(tmp_path / "runs", "x", tmp_path)


def test_frame(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run()
    with RunWriter.open(folder, device="cpu", total_steps=9, echo=False) as writer:
        writer.metrics(1, 0.0, 0.0, {"x": 1.0})
        writer.finish("finished", 0)
    try:
        import pandas  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match="needs pandas"):
            open_run(folder).frame()
    else:
        assert open_run(folder).frame()["x"].tolist() == [1.0]


def test_of_a_thousand_runs_every_file_is_opened_once_and_of_long_ones_the_end_is_read(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    line = json.dumps({"step": 9, "attempt": 1, "train/loss": 0.5, "train/accuracy": 0.9, "lr": 1e-4}) + "\n"
    (tmp_path / "metrics.jsonl").write_text(line * 20_000)
    for i in range(1000):
        folder = root / f"study-{i % 20}" / f"v{i // 20 % 10}" / f"seed-{i // 200}"
        folder.mkdir(parents=True)
        (folder / "preset.toml").write_text('[target]\nmethod = "lsc"\n')
        os.link(tmp_path / "metrics.jsonl", folder / "metrics.jsonl")
        write_status(folder, running(metrics={"train/loss": 0.5}, pace=60.0), durable=False)
    before = bytes_read()
    with files_opened() as opened:
        runs = list_runs([root])
        found = [(status.shown_state, run.last(status), run.tags) for run in runs for status in [run.status()]]
    assert len(found) == 1000
    assert {state for state, _, _ in found} == {"running"}
    assert len(set(short_ids(runs).values())) == 1000
    opened = [path for path in opened if path.startswith(f"{root}/")]  # not what other threads of this process read
    for name in ("status.json", "metrics.jsonl"):
        assert sum(path.endswith(name) for path in opened) == 1000
    # Besides: notes, and what says which processes live.
    assert len(opened) < 5000
    assert bytes_read() - before < 1000 * 32_000


def test_reading_loads_no_torch() -> None:
    code = (
        "import sys; import lsc_engine.runs.read.run, lsc_engine.runs.folder.writer, lsc_engine.studies.prepare, "
        "lsc_engine.analysis.compare, lsc_engine.studies.detach, lsc_engine.cli.commands.runs; "
        "print([m for m in ('torch', 'timm', 'sklearn', 'matplotlib', 'pandas') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_read_status_of_nothing(tmp_path: Path) -> None:
    status = read_status(tmp_path)
    assert (status.state, status.message) == ("unreadable", "status.json is not there")
    assert np.isnan(status.age() or np.nan)
