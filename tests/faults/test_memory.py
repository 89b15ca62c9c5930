"""Memory that runs out: smaller micro-batches at the same global batch, from the same step, said and recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lsc_engine.common.errors import LscError
from lsc_engine.training.step import MicroBatches

from .harness import PRESET, at_steps, good, place, run_of, train


def preset(classes: int, batch: int, size: int) -> str:
    """Five steps of images of `size` px."""
    text = PRESET.replace("classes = 96", f"classes = {classes}\nimage_size = {size}").replace(
        '"6 epochs"', '"5 steps"'
    )
    text = text.replace("batch_size = 16", f"batch_size = {batch}").replace("width = 0.05", "width = 0.25")
    return text.replace('augment = "light1"\n', "").replace('warmup = "6 steps"', 'warmup = "0 steps"')


# The allocator is really refused: all that is free is taken, in pieces of {0} kB, and so many MB are given back.
SQUEEZE = """
import re, resource, torch
torch.backends.mkldnn.enabled = False
def space(more):
    used = 1024 * int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1])
    resource.setrlimit(resource.RLIMIT_AS, (used + more * 2**20, resource.RLIM_INFINITY))
space(16)
held = trainer.held = []
try:
    while True: held.append(torch.empty({0} * 1024, dtype=torch.uint8))
except RuntimeError: pass
space({1})
"""


RELEASE = (
    "import resource\nresource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)\ntrainer.held.clear()\n"
)


def recorded(folder: Path) -> list[dict[str, Any]]:
    document = json.loads((folder / "runs/t/default/seed-0/source.json").read_text())
    changes: list[dict[str, Any]] = document.get("numerics", [])
    return changes


def test_micro_batches_are_halved_at_the_same_step_and_logged(tmp_path: Path) -> None:
    folder = place(tmp_path / "squeezed", preset(64, 64, 32))
    process = train(folder, setup=at_steps({3: SQUEEZE.format(2048, 16), 4: RELEASE}))
    assert process.wait() == 0, process.log.read_text()
    assert (run_of(folder).status().state, run_of(folder).status().step) == ("finished", 5)
    changes = recorded(folder)
    assert changes
    assert all(c["step"] == 2 and c["batch_size"] == 64 for c in changes)
    assert [c["micro_batch"] for c in changes] == [32, 16, 8, 4, 2, 1][: len(changes)]
    assert "batch statistics" in changes[0]["why"]
    log = run_of(folder).log_path.read_text()
    assert "step 2: out of memory: micro-batches of 32 from here on, still 64 images a step; numerics change" in log

    # A run that goes on keeps to it.
    state = torch.load(good(folder).path / "state.pt", weights_only=True)
    assert state["parts"] == 64 // changes[-1]["micro_batch"]


# Gradients of more than four images are refused, those of half a batch or less in their second part.
REFUSE = """
import gc, torch
from lsc_engine.training.step import MicroBatches
seen = {}
def full(_):
    raise torch.OutOfMemoryError("CUDA out of memory.")
def refuse(module, images, output):
    size = len(output)
    seen[size] = seen.get(size, 0) + 1
    if size > 4 and seen[size] == (1 if size == 64 else 2):
        output.register_hook(full)
for m in gc.get_objects():
    if isinstance(m, MicroBatches): m._network["model"].register_forward_hook(refuse)
"""


def test_failed_tries_leave_nothing_in_weights_or_statistics(tmp_path: Path) -> None:
    halved = place(tmp_path / "halved", preset(64, 64, 32))
    process = train(halved, setup=at_steps({3: REFUSE}))
    assert process.wait() == 0, process.log.read_text()
    assert [c["micro_batch"] for c in recorded(halved)] == [32, 16, 8, 4]

    small = place(tmp_path / "small", preset(64, 64, 32))
    code = "import gc\nfrom lsc_engine.training.step import MicroBatches\n"
    code += "for m in gc.get_objects():\n    if isinstance(m, MicroBatches): m.parts = 16\n"
    assert train(small, setup=at_steps({3: code})).wait() == 0
    assert recorded(small) == []
    assert good(halved).files["model.safetensors"] == good(small).files["model.safetensors"]


def test_what_does_not_fit_at_all_ends_with_a_sentence(tmp_path: Path) -> None:
    folder = place(tmp_path / "t", preset(96, 4, 128))
    process = train(folder, setup=at_steps({2: SQUEEZE.format(1024, 4)}))
    assert process.wait() == 1, process.log.read_text()
    status = run_of(folder).status()
    assert (status.state, status.exit_code) == ("failed", 1)
    assert "out of memory at micro-batches of 2 images on cpu, which cannot be halved" in status.message
    assert "smaller model or image size" in status.message


class Full(nn.Module):
    """A linear layer that refuses more than `most` images, as a full device would."""

    def __init__(self, most: int, normed: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.most, self.tries = most, 0
        self.linear = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(3) if normed else nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.tries += 1
        images = self.norm(images)
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        out: torch.Tensor = self.linear(images)
        return out


def gradients(most: int, batch: int, normed: bool = False) -> tuple[Full, list[torch.Tensor | None], list[str]]:
    model, said = Full(most, normed), list[str]()
    micro = MicroBatches(model, batch, torch.device("cpu"))
    draw = torch.Generator().manual_seed(1)
    images, target = torch.randn(batch, 3, generator=draw), torch.randn(batch, 2, generator=draw)
    micro.backward(lambda x, y: (model(x) - y).square().mean(), images, target, on_halved=said.append)
    return model, [p.grad for p in model.linear.parameters()], said


@pytest.mark.parametrize(("batch", "most", "sizes"), [(8, 2, [4, 2]), (10, 3, [5, 3]), (7, 1, [4, 2, 1])])
def test_the_gradient_is_that_of_the_whole_batch(batch: int, most: int, sizes: list[int]) -> None:
    _, whole, nothing = gradients(batch, batch)
    _, parts, said = gradients(most, batch)
    assert nothing == []
    assert [f"micro-batches of {size} " in text for size, text in zip(sizes, said, strict=True)] == [True] * len(sizes)
    for a, b in zip(whole, parts, strict=True):
        assert a is not None
        assert b is not None
        torch.testing.assert_close(a, b)


def test_running_statistics_see_only_the_tries_that_succeed() -> None:
    model, _, said = gradients(4, 16, normed=True)
    assert len(said) == 2
    assert isinstance(model.norm, nn.BatchNorm1d)
    assert model.norm.num_batches_tracked is not None
    # Two tries failed and four parts went through.
    assert (model.tries, model.norm.num_batches_tracked.item()) == (6, 4)


def test_other_errors_are_not_taken_for_missing_memory() -> None:
    model = Full(8, normed=False)

    def loss(images: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    micro = MicroBatches(model, 4, torch.device("cpu"))
    with pytest.raises(RuntimeError, match="shapes"):
        micro.backward(loss, torch.zeros(4, 3), torch.zeros(4, 2))
    with pytest.raises(LscError, match="micro-batches of 1 images on cpu, which cannot be halved"):
        gradients(0, 4)
