"""What every data set looks like to the rest: numbered uint8 images of one size, and their labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol

from lsc_engine.common.deferred import Tensor, torch
from lsc_engine.common.hardware import memory_total

# Bytes of resized images up to which a whole data set is resized when it is opened.
RESIZED_AT_ONCE = 2**29


class ImageSource(ABC):
    """Numbered images of one split.

    `images`: how many; `channels`, `size`: each is uint8 [channels, size, size]; `classes`: how many labels;
    `class_names`: their names in that order, none where they have none;
    `resident`: whether `fetch` is a computation on `device` alone (held there or made there), otherwise images are
    read on the host, best by workers (stream.py); `device`: where labels, and resident images, are; `record`: plain
    values that identify the files the images come from, empty where there are none.
    """

    def __init__(
        self,
        *,
        images: int,
        channels: int,
        size: int,
        classes: int,
        device: torch.device,
        resident: bool = True,
        labels: Tensor | None = None,
    ) -> None:
        """`labels`: one for each image; without them each is a class of its own."""
        self.images, self.channels, self.size, self.classes = images, channels, size, classes
        self.class_names: tuple[str, ...] = ()
        self.device, self.resident = device, resident
        self.record: dict[str, Any] = {}
        self._labels = None if labels is None else labels.to(device=device, dtype=torch.int64)

    @property
    def image_bytes(self) -> int:
        return self.channels * self.size * self.size

    def labels(self, index: Tensor) -> Tensor:
        """int64 [B] image numbers on `device` -> int64 [B] class labels in [0, classes)."""
        return index if self._labels is None else self._labels.index_select(0, index.to(self.device))

    @abstractmethod
    def fetch(self, index: Tensor) -> Tensor:
        """int64 [B] image numbers -> uint8 [B, channels, size, size], on `device` when resident."""


class Reader(Protocol):
    """Reads images on the host, also in workers. Raises LscError for what cannot be read."""

    channels: int
    size: int

    def read(self, index: Tensor) -> Tensor:
        """int64 [B] on the CPU -> uint8 [B, channels, size, size] on the CPU."""


class TensorSource(ImageSource):
    """Images held as one uint8 tensor [N, C, S, S] on the device, and brought to `size` where one is given.

    That is done once where the result stays small (`RESIZED_AT_ONCE` bytes), else for each batch: CIFAR-10 is 150 MB,
    and 7.5 GB at 224 px.
    """

    def __init__(
        self, pixels: Tensor, labels: Tensor | None, *, classes: int, device: torch.device, size: int | None = None
    ) -> None:
        count, channels, native, _ = pixels.shape
        shape: Any = {"images": count, "channels": channels, "size": size or native, "classes": classes}
        super().__init__(**shape, device=device, labels=labels)
        self._pixels = pixels.to(device)
        if count * self.image_bytes <= RESIZED_AT_ONCE:
            self._pixels = resized(self._pixels, self.size)

    def fetch(self, index: Tensor) -> Tensor:
        return resized(self._pixels.index_select(0, index.to(self.device)), self.size)


class StreamedSource(ImageSource):
    """Images that stay on disk and are read when they are needed."""

    def __init__(
        self, reader: Reader, labels: Tensor | None, *, images: int, classes: int, device: torch.device
    ) -> None:
        shape: Any = {"images": images, "channels": reader.channels, "size": reader.size, "classes": classes}
        super().__init__(**shape, device=device, resident=False, labels=labels)
        self.reader = reader

    def fetch(self, index: Tensor) -> Tensor:
        return self.reader.read(index.cpu())


def normalise(images: Tensor) -> Tensor:
    """uint8 -> float32 in [-1, 1]: x / 127.5 - 1, any shape."""
    return images.to(torch.float32).mul_(1.0 / 127.5).sub_(1.0)


def resized(pixels: Tensor, size: int) -> Tensor:
    """uint8 [N, C, H, W] -> uint8 [N, C, size, size], bilinear and antialiased; unchanged when `size` is theirs."""
    if tuple(pixels.shape[-2:]) == (size, size):
        return pixels
    way: Any = {"size": (size, size), "mode": "bilinear", "antialias": True, "align_corners": False}
    blocks = (torch.nn.functional.interpolate(block.float(), **way) for block in pixels.split(1024))
    return torch.cat([block.round_().clamp_(0, 255).to(torch.uint8) for block in blocks])


def device_memory(device: torch.device) -> int:
    """Bytes of memory that `device` has."""
    cuda = device.type == "cuda"
    return int(torch.cuda.get_device_properties(device).total_memory) if cuda else memory_total()


def fits(byte_count: int, device: torch.device) -> bool:
    """Whether images of `byte_count` bytes may stay on `device`: at most a quarter of its memory."""
    return byte_count <= device_memory(device) // 4
