"""NaN and infinity: the run stops as diverged, and no checkpoint ever holds them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from .harness import RUN, at_steps, good, place, run_of, train

# The rate of one step: the loss of that step is finite still, the weights after it are not.
CASES = {
    "weights, no log near": ({20: "rate = float('nan')"}, "1 steps", "40 steps", 19),
    "weights, at a log step": ({21: "rate = float('nan')"}, "1 steps", "3 steps", 20),
    "loss, seen by the log": ({20: "rate = float('inf')"}, "5 steps", "3 steps", 15),
    "loss, seen by a save": ({17: "rate = float('nan')"}, "10 steps", "40 steps", 10),
    "weights, asked to stop": (
        {20: "import signal\nos.kill(os.getpid(), signal.SIGTERM)\nrate = float('nan')"}, "5 steps", "40 steps", 15,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_not_a_number_ends_as_diverged_with_the_last_good_checkpoint(tmp_path: Path, case: str) -> None:
    codes, every, log, last = CASES[case]
    folder = place(tmp_path / "t")
    sets = ("--set", f'checkpoint.every="{every}"', "--set", f'log.every="{log}"', "--set", "checkpoint.keep=1000")
    process = train(folder, *sets, setup=at_steps(codes))
    assert process.wait() == 3, process.log.read_text()
    status = run_of(folder).status()
    assert (status.state, status.exit_code) == ("diverged", 3)
    assert "not finite" in status.message or "the loss is" in status.message
    assert f"last good checkpoint step {last}" in status.message
    assert good(folder).step == last
    for path in sorted((folder / "runs" / RUN / "checkpoints").iterdir()):
        tensors = load_file(path / "model.safetensors")
        assert all(torch.isfinite(t).all() for t in tensors.values()), path
