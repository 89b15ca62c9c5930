"""Which image comes at which step, and how it is augmented, does not depend on interruptions; nor, but for the last
bit of the augmentation, on the device. On the CPU weights are bit-equal besides (test_kill, test_signals); on a GPU
sums may be taken in another order, so that there this is what a resumed run promises."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch

from .harness import PHASES, Process, go_on, in_slow_phase, launch, place, run_of

# Writes step, samples, and a digest of the batch as the model gets it.
TELLING = (
    PHASES
    + """
import hashlib, json
from lsc_engine.training import trainer
_seen_file = open("seen.jsonl", "a", buffering=1)
_step = trainer.Trainer.train_step
def _told(self, batch):
    digest = hashlib.sha256(batch.images.cpu().numpy().tobytes()).hexdigest()
    mean = batch.images.double().mean().item()
    _seen_file.write(json.dumps([self.step, batch.index.tolist(), batch.labels.tolist(), digest, mean]) + "\\n")
    return _step(self, batch)
trainer.Trainer.train_step = _told
"""
)
Seen = dict[int, tuple[list[int], list[int], str, float]]

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")]
    ),
]


def start(folder: Path, device: str, **env: str) -> Process:
    words = ("run", "t.toml", "--device", device, "--set", 'train.compile="off"')
    return launch(folder, *words, setup=TELLING, env=env)


def seen(folder: Path) -> Seen:
    """What the model got at each step; a step that was repeated must have got the same again."""
    found: Seen = {}
    for line in (folder / "seen.jsonl").read_text().splitlines():
        step, *rest = json.loads(line)
        assert found.setdefault(step, tuple(rest)) == tuple(rest)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("device", DEVICES)
def test_a_resumed_run_sees_what_the_straight_one_sees(tmp_path: Path, device: str) -> None:
    straight, broken = place(tmp_path / "straight"), place(tmp_path / "broken")
    assert start(straight, device).wait() == 0
    for phase, number in (("t12", signal.SIGTERM), ("t17", signal.SIGKILL)):
        for name in ("phases", "go-on"):
            (broken / name).unlink(missing_ok=True)
        process = start(broken, device, FAULT_SLOW=phase)
        in_slow_phase(broken, process)
        process.send(number)
        go_on(broken)
        assert process.wait() in (143, -9)
    process = start(broken, device)
    assert process.wait() == 0, process.log.read_text()

    expected, found = seen(straight), seen(broken)
    assert found == expected
    assert sorted(found) == list(range(36))
    # An epoch takes every image once, each epoch in an order of its own.
    epochs = [[i for step in range(6 * e, 6 * e + 6) for i in expected[step][0]] for e in range(6)]
    assert all(sorted(epoch) == list(range(96)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 6

    one, other = run_of(straight), run_of(broken)
    for name in ("train/loss", "lr", "train/accuracy"):
        steps, values = one.history(name)
        again, others = other.history(name)
        assert again.tolist() == steps.tolist()
        exact = device == "cpu"
        torch.testing.assert_close(
            torch.from_numpy(others.copy()), torch.from_numpy(values.copy()), rtol=0 if exact else 2e-2,
            atol=0 if exact else 2e-2,
        )  # fmt: skip
    if device == "cuda":
        on_cpu = place(tmp_path / "cpu")
        assert start(on_cpu, "cpu").wait() == 0
        for step, (index, labels, _, mean) in seen(on_cpu).items():
            assert (index, labels) == expected[step][:2]
            assert mean == pytest.approx(expected[step][3], abs=1e-4)
