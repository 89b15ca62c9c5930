"""Triton kernels, copies and the watch of the host on a real GPU; runs where torch and pydantic are all there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lsc_engine.common.deferred import triton_kernels
from lsc_engine.data.batches import copied_beside
from lsc_engine.data.datasets.spectrum import SpectrumSource
from lsc_engine.heads.lsc import LscHead
from lsc_engine.training.step import device_idle
from lsc_engine.vectors import system
from lsc_engine.vectors.bijection import Bijection
from lsc_engine.vectors.order import Order

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]
CLASSES, CUDA = 1_281_167, torch.device("cuda")


def kernels(work: Callable[[], Any]) -> int:
    """Kernels that `work` starts the second time, counted by the driver."""
    work()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA], acc_events=True) as profile:
        work()
        torch.cuda.synchronize()
    names = [e.name for e in profile.events() if e.device_type == torch.autograd.DeviceType.CUDA]
    return len([name for name in names if not name.startswith(("Memcpy", "Memset", "Activity"))])


@pytest.mark.parametrize("name", ["vectors.triton_bijection", "data.triton_spectrum", "heads.triton_scan"])
def test_the_kernels_build_here(name: str) -> None:
    assert triton_kernels(f"lsc_engine.{name}") is not None


@pytest.mark.parametrize("count", [1, 1000, CLASSES, 2**40 + 1, 2**63])
def test_a_bijection_is_that_of_the_host(count: int) -> None:
    order = Bijection(count, 0, "order")
    numbers = torch.randint(0, min(count, 2**62), (3, 777), generator=torch.Generator().manual_seed(0))
    mapped = order(numbers.to(CUDA))
    assert mapped.cpu().equal(order(numbers))
    assert order.inverse(mapped).cpu().equal(numbers)
    assert kernels(lambda: order(mapped)) == 1


@pytest.mark.parametrize(("size", "per_class"), [(32, None), (64, 13), (15, 2)])
def test_images_are_those_of_the_host_but_for_a_grey_level(size: int, per_class: int | None) -> None:
    index = torch.arange(200) * 5003

    def source(device: str) -> SpectrumSource:
        shape: Any = {"per_class": per_class, "split": "train", "size": size, "device": torch.device(device)}
        return SpectrumSource(classes=CLASSES, **shape)

    there, here = source("cuda"), source("cpu")
    grey = (there.fetch(index.to(CUDA)).cpu().int() - here.fetch(index).int()).abs()
    assert grey.max() <= 1
    assert (grey > 0).float().mean() < 0.01
    batch = torch.arange(512, device=CUDA)
    assert kernels(lambda: there.fetch(batch)) <= 6


@pytest.mark.parametrize(("name", "n"), [("V21", 138), ("A", 1132), ("rademacher", 21)])
def test_labels_among_1_281_167_classes_are_few_kernels_and_the_largest_cosines(name: str, n: int) -> None:
    vectors = system(name, n)
    head = LscHead(vectors, Order.make("shuffled", vectors, 0), CLASSES)
    z = torch.randn(512, n, generator=torch.Generator().manual_seed(0)).to(CUDA)

    def cosines(labels: Tensor) -> Tensor:
        return vectors.cosine(z.cpu(), head.order.index(labels.cpu()))

    scanned, decoded = head._scan(z), head.predict(z)
    torch.testing.assert_close(cosines(scanned), cosines(decoded), atol=1e-5, rtol=0)
    here = LscHead(vectors, Order.make("shuffled", vectors, 0), CLASSES).predict(z[:16].cpu())
    torch.testing.assert_close(
        cosines(decoded)[:16], vectors.cosine(z[:16].cpu(), head.order.index(here)), atol=1e-5, rtol=0
    )
    assert kernels(lambda: head._scan(z)) <= 50


def test_a_copy_beside_arrives_and_is_not_overwritten() -> None:
    side, sums = torch.cuda.Stream(CUDA), []
    for number in range(20):
        images = copied_beside(torch.full((64, 3, 64, 64), number, dtype=torch.uint8).pin_memory(), side)
        sums.append(images.sum(dtype=torch.int64))
        del images
    assert [int(each) for each in sums] == [number * 64 * 3 * 64 * 64 for number in range(20)]


def test_a_gpu_is_idle_when_all_is_done() -> None:
    torch.cuda.synchronize()
    assert device_idle(CUDA)
    a = torch.randn(8192, 8192, device=CUDA)
    for _ in range(20):
        a = a @ a
    assert not device_idle(CUDA)
    torch.cuda.synchronize()
    assert device_idle(CUDA)
