"""run, resume, fork as a user calls them: real processes, real digits, exit codes, nothing half made."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lsc_engine.runs.read.run import list_runs, open_run
from lsc_engine.studies.plan import plan_study
from lsc_engine.studies.prepare import begin_study
from tests import processes
from tests.tiny import tiny
from tests.waiting import wait_until

VARIANTS = """
[[variants]]
name = "wide"
model.dim = 40

[[variants]]
name = "narrow"
model.dim = "min"
"""
COMPARED = {"compare.baseline": "wide", "compare.levels": {"train/accuracy": [0.1], "train/loss": [0.9]}}
PRESET = tiny({"title": "Tiny", "train.duration": "3 epochs"} | COMPARED) + VARIANTS


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    """A command line in a session of its own."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return processes.start(*words, cwd=folder, start_new_session=True, **pipes)


def call(folder: Path, *words: str, code: int = 0) -> tuple[str, str]:
    done = processes.call(*words, cwd=folder, code=code)
    return done.stdout, done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tiny.toml").write_text(PRESET)
    return tmp_path


def long_running(folder: Path, *more: str) -> tuple[subprocess.Popen[str], Any]:
    """A started run of very many epochs, once it has written its first metrics."""
    sets = ("--set", 'train.duration="100000 epochs"', "--set", 'log.every="4 steps"', "--variant", "narrow")
    process = start(folder, "run", "tiny.toml", *sets, *more)
    metrics = folder / "runs/tiny/narrow/seed-0/metrics.jsonl"
    wait_until(lambda: metrics.exists() and metrics.stat().st_size > 0)
    return process, open_run(metrics.parent)


def test_run_trains_all_variants_and_seeds_then_prints_curves_and_table(folder: Path) -> None:
    out, err = call(folder, "run", "tiny.toml", "--seeds", "0,1")
    for variant in ("wide", "narrow"):
        for seed in (0, 1):
            assert open_run(folder / f"runs/tiny/{variant}/seed-{seed}").status().state == "finished"
            assert f"tiny/{variant}/seed-{seed}: finished" in err
    assert "wide" in out
    assert "narrow" in out
    assert "train/accuracy" in out

    again, err = call(folder, "run", "tiny.toml", "--seeds", "0,1")
    assert "4 of 4 runs are done already" in err
    assert again == out
    # In the order of the preset, as the table of the run itself.
    printed, _ = call(folder, "compare", "tiny", "--json")
    assert [row["runs"][0] for row in json.loads(printed)["rows"]] == ["tiny/wide/seed-0", "tiny/narrow/seed-0"]


def test_json_is_one_document_and_messages_stay_on_stderr(folder: Path) -> None:
    out, err = call(folder, "run", "tiny.toml", "--json", "--variant", "narrow")
    document = json.loads(out)
    assert document["study"] == "tiny"
    assert [row["id"] for row in document["runs"]] == ["tiny/narrow/seed-0"]
    source = json.loads((folder / "runs/tiny/narrow/seed-0/source.json").read_text())
    assert source["device"]
    assert {"command", "code", "versions", "host", "seed", "head"} <= set(source)
    assert {"kind", "version", "sha256"} <= set(source["head"]["order"])
    assert "finished" in err


def test_a_sweep_multiplies_the_variants(folder: Path) -> None:
    call(folder, "run", "tiny.toml", "--variant", "narrow", "--sweep", "optimizer.lr=0.001,0.003",
         "--set", 'train.duration="1 epochs"')  # fmt: skip
    assert sorted(p.name for p in (folder / "runs/tiny").iterdir()) == ["narrow+lr=0.001", "narrow+lr=0.003"]


def test_tune_tries_the_grid_and_trains_with_the_best(folder: Path) -> None:
    text = PRESET + '\n[tune]\n"optimizer.lr" = [1e-6, 3e-3, 9.0]\nduration = "3 epochs"\nby = "train/loss"\n'
    (folder / "tiny.toml").write_text(text)
    out, err = call(folder, "run", "tiny.toml", "--variant", "narrow", "--json")
    assert "narrow: lr = 0.003 is the best of its grid" in err
    tries = json.loads(out)["tries"]
    assert [(t["values"], t["state"], t["by"]) for t in tries] == [
        ({"optimizer.lr": lr}, "finished", "the final train/loss") for lr in (1e-6, 3e-3, 9.0)
    ]
    assert tries[0]["value"] > tries[1]["value"]
    assert len(list((folder / "runs/tiny.tune").iterdir())) == 3
    assert open_run(folder / "runs/tiny/narrow/seed-0").config["optimizer"]["lr"] == 3e-3


def test_a_grid_grows_as_far_as_its_setting_allows(folder: Path) -> None:
    text = PRESET + '\n[tune]\n"optimizer.momentum" = [0.4, 0.6]\nduration = "3 epochs"\nby = "train/loss"\n'
    (folder / "tiny.toml").write_text(text.replace("[optimizer]", '[optimizer]\nname = "sgd"'))
    _, err = call(folder, "run", "tiny.toml", "--variant", "narrow")
    assert "at the edge of the grid, which grows to momentum = 0.9" in err
    assert "done already" not in err
    assert "narrow: the best value lies at the edge of the grid, which cannot grow to momentum = 1: " in err
    assert "narrow: momentum = 0.9 is the best of its grid by the final train/loss, at the edge of the grid" in err
    assert open_run(folder / "runs/tiny/narrow/seed-0").config["optimizer"]["momentum"] == 0.9
    _, err = call(folder, "run", "tiny.toml", "--variant", "narrow")
    assert [line[:6] for line in err.splitlines() if line.endswith("done already")] == ["2 of 2", "1 of 1", "1 of 1"]


def test_stopped_while_trying_lists_the_tries(folder: Path) -> None:
    text = PRESET + '\n[tune]\n"optimizer.lr" = [1e-3, 3e-3]\nduration = "100000 epochs"\nby = "train/loss"\n'
    (folder / "tiny.toml").write_text(text)
    process = start(folder, "run", "tiny.toml", "--variant", "narrow", "--json")
    wait_until(lambda: any(r.status().state == "running" for r in list_runs([folder / "runs"])))
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 143
    assert [t["state"] for t in json.loads(out)["tries"]] == ["stopped", "queued"]


def test_stop_now_lists_what_it_leaves_waiting(folder: Path) -> None:
    process, _ = long_running(folder, "--seeds", "0,1")
    _, err = call(folder, "stop", "narrow/seed-0", "--now")
    process.communicate(timeout=240)
    assert "its process would have trained 1 more of tiny, which wait now" in err
    assert open_run(folder / "runs/tiny/narrow/seed-1").status().state == "queued"


def test_a_variant_may_build_on_another(folder: Path) -> None:
    text = PRESET + '\n[[variants]]\nname = "means"\nneeds = "wide"\ntarget.system = "embeddings:@wide"\n'
    (folder / "tiny.toml").write_text(text + 'target.order = "sequential"\nmodel.dim = 40\n')
    call(folder, "run", "tiny.toml", "--variant", "means")
    assert (folder / "runs/tiny/wide/seed-0/class_means.safetensors").is_file()
    assert open_run(folder / "runs/tiny/means/seed-0").status().state == "finished"
    assert not (folder / "runs/tiny/narrow").exists()


def test_signals_stop_with_a_checkpoint_and_the_same_command_goes_on(folder: Path) -> None:
    step = 0
    for attempt, number in enumerate((signal.SIGTERM, signal.SIGINT, signal.SIGHUP)):
        process, run = long_running(folder)
        wait_until(lambda run=run, at=(attempt, step): run.status().attempt > at[0] and run.status().step > at[1])
        process.send_signal(number)
        process.communicate(timeout=240)
        code = 128 + number
        assert process.returncode == code
        assert (run.status().state, run.status().exit_code) == ("stopped", code)
        assert not step or f"resumed at step {step} " in run.log_path.read_text()
        step = run.checkpoints()[-1].step
        assert step == run.status().step


@pytest.mark.slow
def test_a_detached_run_ignores_hangup_and_stops_on_request(folder: Path) -> None:
    out, _ = call(folder, "run", "tiny.toml", "--set", 'train.duration="100000 epochs"', "--variant", "narrow",
                  "--detach", "--json")  # fmt: skip
    document = json.loads(out)
    run = open_run(folder / "runs/tiny/narrow/seed-0")
    wait_until(lambda: run.status().state == "running")
    os.kill(document["pid"], signal.SIGHUP)
    step = run.status().step
    wait_until(lambda: run.status().step > step)
    assert run.status().state == "running"
    call(folder, "stop", "narrow")
    wait_until(lambda: run.status().state == "stopped")
    assert run.checkpoints()


def test_a_second_process_on_the_same_run_is_refused(folder: Path) -> None:
    process, run = long_running(folder)
    sets = ("--set", 'train.duration="100000 epochs"', "--set", 'log.every="4 steps"')
    _, err = call(folder, "run", "tiny.toml", *sets, "--variant", "narrow", code=1)
    assert f"tiny/narrow/seed-0: pid {process.pid} on" in err
    assert "trains it: running at step" in err
    assert "--wait waits for its end" in err
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=240)
    assert run.status().state == "stopped"


def test_resume_and_fork(folder: Path) -> None:
    process, run = long_running(folder)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=240)
    step = run.checkpoints()[-1].step

    call(folder, "fork", "narrow", "--set", "optimizer.lr=1e-3", "--set", f'train.duration="{step + 8} steps"',
         "--set", "data.augment=light1")  # fmt: skip
    (child,) = [p for p in (folder / "runs/tiny").iterdir() if p.name != "narrow"]
    forked = open_run(child / "seed-0")
    assert forked.status().state == "finished"
    assert forked.source["parent"] == {"id": "tiny/narrow/seed-0", "step": step}
    steps, _, epochs, seconds = forked.axes("train/loss")
    assert steps.min() > step
    # All three count from the start of the parent.
    parent_steps, _, parent_epochs, parent_seconds = run.axes("train/loss")
    last = (parent_steps <= step).nonzero()[0][-1]
    assert epochs.min() > parent_epochs[last]
    assert seconds.min() > parent_seconds[last]
    out, _ = call(folder, "compare", run.id, forked.id, "--json")
    (note,) = [note for note in json.loads(out)["notes"] if "forked" in note]
    assert f"forked from {run.id} at step {step}: what it reached before counts from its first value" in note
    _, err = call(folder, "resume", run.id, "--set", "optimizer.lr=1", code=2)
    assert "--set optimizer.lr: a run that goes on keeps its settings" in err
    assert "--set data.path" not in err
    shown, _ = call(folder, "show", forked.id)
    assert f"forked from tiny/narrow/seed-0, step {step}" in shown
    printed, err = call(folder, "resume", forked.id, "--json")
    assert json.loads(printed)["state"] == "finished"
    assert "fork it" in err
    for weights in forked.path.glob("checkpoints/*/model.safetensors"):
        weights.write_bytes(b"")
    shown, _ = call(folder, "show", forked.id)
    assert "(damaged)" in shown
    _, err = call(folder, "resume", forked.id)
    assert f"{forked.id} is finished, but its checkpoints are missing or damaged; lsc-engine run " in err

    resumed = start(folder, "resume", "narrow/seed-0")
    wait_until(lambda: run.status().attempt == 2 and run.status().step > step)
    resumed.send_signal(signal.SIGTERM)
    resumed.communicate(timeout=240)
    assert resumed.returncode == 143


def test_resume_of_a_study_goes_on_with_what_is_left(folder: Path) -> None:
    (folder / "tiny.toml").write_text(PRESET + 'start_from = "@wide"\nneeds = "wide"\n')
    begin_study(plan_study(folder / "tiny.toml"), folder / "runs", {})
    printed, _ = call(folder, "resume", "tiny/wide", "--json")
    assert json.loads(printed)["state"] == "finished"
    printed, err = call(folder, "resume", "tiny", "--json")
    assert [(row["id"], row["state"], row["attempt"]) for row in json.loads(printed)] == [
        ("tiny/wide/seed-0", "finished", 1),
        ("tiny/narrow/seed-0", "finished", 1),
    ]
    assert "tiny/wide/seed-0 is finished, at step" in err


def test_one_diverged_run_does_not_stop_the_others_and_sets_the_exit_code(folder: Path) -> None:
    text = PRESET.replace('name = "wide"', 'name = "wide"\noptimizer.lr = 1000.0\ntarget.loss = "distance"')
    (folder / "tiny.toml").write_text(text)
    _, err = call(folder, "run", "tiny.toml", code=3)
    assert "tiny/wide/seed-0: diverged: the loss is" in err
    assert open_run(folder / "runs/tiny/narrow/seed-0").status().state == "finished"


BAD = {
    "unknown key": ("[train]", "[train]\nbatchsize = 3", "batch_size"),
    "misspelt system": ('system = "V21"', 'system = "V12x"', "target.system"),
    "too many classes": ("model.dim = 40", "model.dim = 4", "64 are needed"),
    "not TOML": ("[data]", "[data", "tiny.toml"),
    "missing data": ('dataset = "digits"\nlabels = "unique"\nclasses = 64',
                     'dataset = "cifar10"\nlabels = "class"', "cifar"),
    "a model timm lacks": ('name = "encoder"', 'name = "timm:resnett18"', "resnet18"),
    "no layers to fix": ('name = "encoder"', 'name = "timm:resnet10t"\netf_layers = "feed-forward"', "no feed-forward"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_sentence_per_fault_code_2_and_nothing_created(folder: Path, what: str) -> None:
    old, new, named = BAD[what]
    (folder / "tiny.toml").write_text(PRESET.replace(old, new))
    before = sorted(folder.rglob("*"))
    out, err = call(folder, "run", "tiny.toml", "--data-dir", str(folder / "none"), code=2)
    assert out == ""
    assert named in err
    assert "Traceback" not in err
    assert sorted(folder.rglob("*")) == before


def test_a_foreign_folder_and_other_settings_under_the_same_name_are_refused(folder: Path) -> None:
    foreign = folder / "runs/tiny/narrow/seed-0"
    foreign.mkdir(parents=True)
    (foreign / "thesis.txt").write_text("mine")
    _, err = call(folder, "run", "tiny.toml", code=2)
    assert "is not a run" in err
    assert sorted(p.name for p in (folder / "runs/tiny").iterdir()) == ["narrow"]
    (foreign / "thesis.txt").unlink()
    call(folder, "run", "tiny.toml", "--variant", "narrow")
    _, err = call(folder, "run", "tiny.toml", "--variant", "narrow", "--set", "optimizer.lr=0.5", code=2)
    assert "optimizer.lr" in err
    assert "--name tiny-2" in err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--device cudaa", "cudaa"),
        ("--seeds 0,0", "given twice"),
        ("--variant narow", "narrow"),
        ("--set optimizer.lrr=1", "optimizer.lr"),
        ("--set optimizer.lr=-1", "--set optimizer.lr: must be"),
        ("--sweep train.batch_size=0,4", "--sweep train.batch_size: must be at least 1, not 0"),
        ("--set optimizer.lr=1 --sweep optimizer.lr=0.1,0.2", "--set optimizer.lr and --sweep optimizer.lr: give one"),
        ("--plugin none.py", "is not a file"),
        ("--seeds 1 --seeds 2", "--seeds is given twice, and takes one value"),
        ("--name a/b", '--name: "a/b": before a slash stands a folder of the shipped presets (beyond, etf-2024, '),
        ("--name tiny.tune", '--name: "tiny.tune": names that end in .tune are kept for the tries'),
        ("--name /abs", '--name: "/abs" begins or ends with a slash'),
    ],
)
def test_bad_options_are_refused(folder: Path, words: str, sentence: str) -> None:
    _, err = call(folder, "run", "tiny.toml", *words.split(), code=2)
    assert "Traceback" not in err
    assert sentence in err
    assert not (folder / "runs").exists()
