"""Which sample comes when: a pure function of (seed, epoch, position), for every kind of source."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import synchronize
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.data import batches as batches_module
from lsc_engine.data.batches import Batches, copied_beside, eval_batches, fixed_subset
from lsc_engine.data.dataset import open_source
from lsc_engine.data.source import ImageSource, StreamedSource, TensorSource, normalise
from lsc_engine.data.stream import WorkerLostError, stream
from lsc_engine.heads.cross_entropy import CrossEntropyHead
from lsc_engine.training.step import make_loss
from tests.waiting import wait_until


@pytest.fixture
def digits(settings: Any) -> ImageSource:
    return open_source(settings("digits", "unique"), split="train")


@pytest.fixture
def streamed(
    settings: Any, image_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> StreamedSource:
    image_folder("imagenet", {"train": {c: [f"{c}{i:02d}.JPEG" for i in range(25)] for c in ("a", "b")}})
    monkeypatch.setattr("lsc_engine.data.source.device_memory", lambda _: 0)
    source = open_source(settings("imagenet", image_size=72), split="train", data_dir=tmp_path)
    assert isinstance(source, StreamedSource)
    return source


def take(batches: Batches[Any], start: int, count: int) -> list[Any]:
    return list(itertools.islice(batches.from_step(start), count))


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("images", "labels", "index"))


def test_steps_per_epoch_drop_the_rest(digits: ImageSource) -> None:
    assert Batches(digits, 256, 0).steps_per_epoch == 7
    assert Batches(digits, 1797, 0).steps_per_epoch == 1
    with pytest.raises(UsageError, match=r"train\.batch_size: 1,798"):
        Batches(digits, 1798, 0)


def test_each_epoch_is_a_permutation_and_no_two_are_equal(digits: ImageSource) -> None:
    batches = Batches(digits, 599, 0)
    assert batches.steps_per_epoch == 3
    epochs = [torch.cat([b.index for b in take(batches, 3 * e, 3)]) for e in range(4)]
    for epoch in epochs:
        assert torch.equal(epoch.sort().values, torch.arange(1797))
    for one, other in itertools.combinations(epochs, 2):
        assert (one == other).float().mean() < 0.02
    other_seed = torch.cat([b.index for b in take(Batches(digits, 599, 1), 0, 3)])
    assert (other_seed == epochs[0]).float().mean() < 0.02


@pytest.mark.parametrize("augment", ["none", "light1"])
@pytest.mark.parametrize("per", ["image", "batch"])
def test_from_step_equals_skipping(
    digits: ImageSource, monkeypatch: pytest.MonkeyPatch, augment: str, per: str
) -> None:
    # Blocks of 3 batches in epochs of 17 steps, so that steps lie in every place of a block.
    monkeypatch.setattr(batches_module, "BLOCK_SAMPLES", 300)
    monkeypatch.setattr(batches_module, "BLOCK_BYTES", {"cpu": 2 * 100 * 64})
    batches = Batches(digits, 100, 5, augment=augment, augment_per=per)
    straight = take(batches, 0, 40)
    for start in (0, 1, 2, 3, 8, 16, 17, 18, 35):
        assert all(same(a, b) for a, b in zip(straight[start:], take(batches, start, 40 - start), strict=True))


def test_block_size_does_not_change_the_batches(digits: ImageSource, monkeypatch: pytest.MonkeyPatch) -> None:
    default = take(Batches(digits, 64, 0, augment="light1"), 0, 60)
    monkeypatch.setattr(batches_module, "BLOCK_SAMPLES", 1)
    assert all(same(a, b) for a, b in zip(default, take(Batches(digits, 64, 0, augment="light1"), 0, 60), strict=True))


def test_images_labels_and_index_belong_together(settings: Any) -> None:
    source = open_source(settings("digits"), split="train")
    for batch in take(Batches(source, 100, 0), 12, 20):
        assert torch.equal(batch.labels, source.labels(batch.index))
        assert torch.equal(batch.images, normalise(source.fetch(batch.index)))
        assert batch.images.dtype == torch.float32


class Pair(NamedTuple):
    columns: Tensor
    weights: Tensor


def test_targets_are_made_for_many_batches_at_once(digits: ImageSource) -> None:
    calls: list[int] = []

    def target(labels: Tensor) -> dict[str, Any]:
        calls.append(len(labels))
        return {"pair": Pair(labels[:, None] + torch.arange(3), labels.float()), "row": (labels * 2,), "none": None}

    for batch in take(Batches(digits, 128, 0, target=target), 0, 14):
        pair = batch.target["pair"]
        assert isinstance(pair, Pair)
        assert torch.equal(pair.columns, batch.labels[:, None] + torch.arange(3))
        assert torch.equal(batch.target["row"][0], batch.labels * 2)
    assert calls == [14 * 128]


def test_gradients_flow_after_a_batch(digits: ImageSource) -> None:
    """The generator keeps its no_grad to itself, and its tensors may be saved for the backward pass."""
    batch = next(Batches(digits, 8, 0).from_step(0))
    weight = torch.ones(64, requires_grad=True)
    (batch.images.flatten(1) * weight).sum().backward()
    assert weight.grad is not None


def test_global_random_numbers_are_left_alone(digits: ImageSource, streamed: StreamedSource) -> None:
    before = torch.get_rng_state()
    take(Batches(digits, 64, 0, augment="light1"), 0, 3)
    take(Batches(streamed, 10, 0, workers=1, augment="light1"), 0, 3)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_order_is_the_same(streamed: StreamedSource, workers: int) -> None:
    batches = Batches(streamed, 8, 3, workers=workers)
    straight = take(batches, 0, 14)
    for batch in straight:
        assert torch.equal(batch.images, normalise(streamed.fetch(batch.index)))
        assert torch.equal(batch.labels, batch.index // 25)
    assert all(same(a, b) for a, b in zip(straight[5:], take(batches, 5, 9), strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_vanished_file_is_named(streamed: StreamedSource, workers: int) -> None:
    path = streamed.reader.files.path(30)  # type: ignore[attr-defined]
    path.unlink()
    with pytest.raises(LscError, match=f"{path.name} has vanished"):
        take(Batches(streamed, 10, 0, workers=workers), 0, 5)


def children() -> set[int]:
    import psutil

    return {child.pid for child in psutil.Process().children(recursive=True)}


def test_workers_end_with_their_iterator(streamed: StreamedSource) -> None:
    before = children()
    iterator = Batches(streamed, 5, 0, workers=2).from_step(0)
    next(iterator)
    assert len(children() - before) >= 2
    iterator.close()  # type: ignore[attr-defined]
    del iterator
    wait_until(lambda: not children() - before, lambda: f"the end of {children() - before}")


def test_a_stream_that_ends_leaves_the_workers_of_others_alone(streamed: StreamedSource) -> None:
    first, second = (Batches(streamed, 5, 0, workers=1).from_step(0) for _ in range(2))
    for _ in range(2):
        next(first), next(second)
    first.close()  # type: ignore[attr-defined]
    assert len(list(itertools.islice(second, 20))) == 20
    second.close()  # type: ignore[attr-defined]


def test_a_worker_that_dies_with_answers_on_the_way_is_told(streamed: StreamedSource) -> None:
    """They lie in its memory: fetching them fails in other ways than waiting for it does."""
    before = children()
    iterator = Batches(streamed, 5, 0, workers=1).from_step(0)
    next(iterator)
    # By then the next answers are ready; where they are not, the death shows while they are waited for.
    time.sleep(0.5)
    for pid in children() - before:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerLostError, match="a data worker ended"):
        list(itertools.islice(iterator, 50))


class _DiesWithTheLocks:
    """In a worker, takes every lock on an event or condition that it shares with other processes, and dies."""

    channels, size = 1, 4

    def read(self, index: Tensor) -> Tensor:
        for found in gc.get_objects():
            if type(found) is synchronize.Condition:
                found.acquire()
        os.kill(os.getpid(), signal.SIGKILL)
        return index


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_killed_with_a_lock_does_not_block_the_end(workers: int) -> None:
    before = children()
    with pytest.raises(WorkerLostError, match="a data worker ended"):
        list(stream(_DiesWithTheLocks(), iter([torch.arange(2)] * 8), workers=workers))  # type: ignore[arg-type]
    wait_until(lambda: not children() - before, lambda: f"the end of {children() - before}")


_SIGNALLED = """
import os, signal, sys, torch
torch.set_num_threads(1)
from dataclasses import dataclass
from pathlib import Path
from lsc_engine.data.batches import Batches
from lsc_engine.data.dataset import open_source
from lsc_engine.data import source as s
s.device_memory = lambda _: 0
@dataclass
class D:
    skip_bad = None
    dataset = "imagenet"; labels = "class"; image_size = 72; path = None; classes = None
signal.signal(signal.SIGINT, lambda *_: None)
signal.signal(signal.SIGTERM, lambda *_: None)
os.setpgrp()
source = open_source(D(), split="train", data_dir=sys.argv[1])
batches = Batches(source, 10, 0, workers=2).from_step(0)
next(batches)
os.killpg(0, signal.SIGINT)
os.killpg(0, signal.SIGTERM)
for _ in range(40): next(batches)
print("all there", flush=True)
if sys.argv[2] == "kill": os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_outlive_ctrl_c_and_sigterm(streamed: StreamedSource, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _SIGNALLED, str(tmp_path), "end"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stdout.strip()) == (0, "all there"), done.stderr


@pytest.mark.slow
def test_workers_end_when_the_trainer_is_killed(streamed: StreamedSource, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _SIGNALLED, str(tmp_path), "kill"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    assert process.wait(timeout=240) == -signal.SIGKILL
    wait_until(lambda: not _is_there(process.pid), "the end of the workers")


def _is_there(group: int) -> bool:
    """Whether a process group has members."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_fixed_subset_is_the_same_for_all_and_spread() -> None:
    subset = fixed_subset(60_000, 1000)
    assert torch.equal(subset, fixed_subset(60_000, 1000))
    assert len(subset.unique()) == 1000
    assert torch.equal(subset, subset.sort().values)
    assert torch.histc(subset.float(), 6, 0, 60_000).min() > 100
    assert fixed_subset(5, 10).tolist() == [0, 1, 2, 3, 4]
    assert len(fixed_subset(10**12, 50)) == 50


def test_eval_batches(settings: Any, streamed: StreamedSource) -> None:
    source = open_source(settings("digits"), split="val")
    assert source is not None
    index = fixed_subset(source.images, 250)
    found = list(eval_batches(source, index, 100))
    assert [len(b.labels) for b in found] == [100, 100, 50]
    assert torch.equal(torch.cat([b.labels for b in found]), source.labels(index))
    assert torch.equal(torch.cat([b.images for b in found]), normalise(source.fetch(index)))
    files = list(eval_batches(streamed, torch.tensor([40, 3, 7]), 2, workers=1))
    assert torch.equal(torch.cat([b.images for b in files]), normalise(streamed.fetch(torch.tensor([40, 3, 7]))))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_no_wait_for_the_gpu_between_batches(settings: Any) -> None:
    for data in (settings("digits", "unique"), settings("spectrum", "unique", 10**6, 32)):
        source = open_source(data, split="train", device="cuda")
        batches = Batches(source, 64, 0, device="cuda", augment="light1", target=lambda labels: labels * 2)
        take(batches, 0, 2)
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            found = take(batches, 0, 40)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        reference = open_source(data, split="train")
        expected = take(Batches(reference, 64, 0), 0, 40)
        assert all(torch.equal(a.index.cpu(), b.index) for a, b in zip(found, expected, strict=True))


def test_a_copy_to_the_gpu_goes_beside_the_step_that_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams and tensors are written down in the order in which they are used."""
    seen: list[Any] = []

    class Images:
        def to(self, device: Any, *, non_blocking: bool) -> Images:
            seen.append(("copy", device, non_blocking))
            return self

        def record_stream(self, stream: Any) -> None:
            seen.append(("keep for", stream))

    class Computing:
        def wait_stream(self, stream: Any) -> None:
            seen.append(("wait for", stream))

    @contextmanager
    def on(stream: Any) -> Iterator[None]:
        seen.append(("on", stream))
        yield
        seen.append(("off", stream))

    computing, images, side = Computing(), Images(), SimpleNamespace(device="cuda")
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: computing)
    assert copied_beside(images, side) is images  # type: ignore[arg-type,comparison-overlap]
    copy = [("on", side), ("copy", "cuda", True), ("off", side)]
    assert seen == [*copy, ("wait for", side), ("keep for", computing)]


def test_images_for_a_gpu_stay_bytes_unless_something_is_done_with_them(digits: ImageSource) -> None:
    """The device meta computes no values."""
    source = TensorSource(torch.zeros(40, 1, 4, 4, dtype=torch.uint8), None, classes=40, device=torch.device("meta"))

    def kind(**options: Any) -> torch.dtype:
        return next(Batches(source, 8, 0, device="meta", **options).from_step(0)).images.dtype

    assert kind() == torch.uint8
    assert kind(augment="light1") == torch.float32
    assert next(Batches(digits, 8, 0).from_step(0)).images.dtype == torch.float32


def test_a_loss_of_bytes_is_that_of_floats() -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 6))
    head = CrossEntropyHead(6, 10, None, 0)
    loss = make_loss(model, head, dtype=None, device=torch.device("cpu"), compiled=False)
    images = torch.randint(0, 256, (8, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    target = torch.arange(8)
    assert loss(images, target).equal(loss(normalise(images), target))
