"""Every data set in its real format: the real files where they are at hand, small made-up copies of the others."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lsc_engine.common.errors import LscError, UsageError
from lsc_engine.data.batches import Batches
from lsc_engine.data.dataset import Selection, data_set, open_source
from lsc_engine.data.datasets import cifar10, fashion_mnist
from lsc_engine.data.datasets.image_folders import ImageNet
from lsc_engine.data.imagefiles import decode
from lsc_engine.data.source import StreamedSource, TensorSource, normalise, resized


# ----------------------------------------------------------------------------------------------------------- digits
def test_digits_by_class_hold_out_every_sixth_image(settings: Any) -> None:
    from sklearn.datasets import load_digits

    real = load_digits()
    train = open_source(settings("digits"), split="train")
    val = open_source(settings("digits"), split="val")
    assert val is not None
    assert (train.images, val.images, train.classes, train.size, train.channels) == (1497, 300, 10, 8, 1)
    assert val.labels(torch.arange(300)).tolist() == real.target[::6].tolist()
    images = train.fetch(torch.tensor([0, 4, 5]))  # originals 1, 5 and 7
    assert images.dtype == torch.uint8
    assert images[2, 0].tolist() == np.rint(real.images[7] * 255 / 16).astype(int).tolist()
    assert int(images.max()) == 255


def test_digits_unique_are_all_images_without_validation(settings: Any) -> None:
    train = open_source(settings("digits", "unique"), split="train")
    assert (train.images, train.classes) == (1797, 1797)
    assert open_source(settings("digits", "unique"), split="val") is None
    assert train.labels(torch.tensor([5, 1796])).tolist() == [5, 1796]


def test_printed_digits_look_like_handwritten_ones(settings: Any) -> None:
    train, val = (open_source(settings("printed-digits"), split=split) for split in ("train", "val"))
    assert val is not None
    assert (train.images, val.images, val.channels, val.size, val.classes) == (420, 210, 1, 8, 10)
    index = torch.arange(val.images)
    assert torch.bincount(val.labels(index)).tolist() == [21] * 10
    assert torch.bincount(train.labels(torch.arange(420))).tolist() == [42] * 10
    printed = val.fetch(index).float()
    # Grey levels of counts from 0 to 16, as bright as handwritten digits.
    written = open_source(settings("digits"), split="train").fetch(torch.arange(1000)).float()
    assert set((printed * 16 / 255).round().unique().tolist()) <= set(range(17))
    assert abs(printed.mean() - written.mean()) < 30
    # The nearest mean of the handwritten classes knows most of them: they are the same classes.
    labels = open_source(settings("digits"), split="train").labels(torch.arange(1000))
    means = torch.stack([written[labels == digit].mean(0) for digit in range(10)]).flatten(1)
    guessed = torch.cdist(printed.flatten(1), means).argmin(1)
    assert (guessed == val.labels(index)).float().mean() > 0.5


def test_first_classes_and_first_images(settings: Any) -> None:
    three = open_source(settings("digits", classes=3), split="train")
    assert three.classes == 3
    assert set(three.labels(torch.arange(three.images)).tolist()) == {0, 1, 2}
    hundred = open_source(settings("digits", "unique", classes=100), split="train")
    assert (hundred.images, hundred.classes) == (100, 100)


def test_more_images_than_there_are_is_refused(settings: Any) -> None:
    with pytest.raises(UsageError, match=r"data\.classes: 2,000 is more than the 1,797 images of digits"):
        open_source(settings("digits", "unique", classes=2000), split="train")


def test_resizing_is_antialiased(settings: Any) -> None:
    assert open_source(settings("digits", image_size=16), split="train").fetch(torch.arange(3)).shape == (3, 1, 16, 16)
    stripes = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
    stripes[..., ::2] = 255
    inner = resized(stripes, 8)[..., 1:-1].float()
    assert (inner - 127.5).abs().max() < 8  # without antialiasing: 0 or 255


def test_resizing_per_batch_gives_the_same_images(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = settings("digits", image_size=20)
    at_once = open_source(data, split="train")
    monkeypatch.setattr("lsc_engine.data.source.RESIZED_AT_ONCE", 0)
    per_batch = open_source(data, split="train")
    index = torch.tensor([1000, 3, 700])
    assert (per_batch.size, per_batch.image_bytes) == (20, 400)
    assert torch.equal(at_once.fetch(index), per_batch.fetch(index))


def test_normalise_ends_at_plus_and_minus_one() -> None:
    values = normalise(torch.tensor([0, 255], dtype=torch.uint8))
    assert values.tolist() == pytest.approx([-1.0, 1.0], abs=1e-6)
    assert values.dtype == torch.float32


# ---------------------------------------------------------------------------------------------------- fashion-mnist
@pytest.mark.skipif(data_set("fashion-mnist").locate() is None, reason="Fashion-MNIST is not on this machine")
def test_real_fashion_mnist(settings: Any) -> None:
    train = open_source(settings("fashion-mnist"), split="train")
    val = open_source(settings("fashion-mnist"), split="val")
    assert val is not None
    assert (train.images, val.images, train.size, train.channels) == (60_000, 10_000, 28, 1)
    assert train.labels(torch.arange(5)).tolist() == [9, 0, 0, 3, 0]
    assert torch.bincount(val.labels(torch.arange(10_000))).tolist() == [1000] * 10
    # The mean of the training pixels is a published figure of the set: 0.2860.
    assert train.fetch(torch.arange(60_000)).float().mean().item() / 255 == pytest.approx(0.2860, abs=1e-4)


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def write_fashion(folder: Path) -> None:
    folder.mkdir(parents=True)
    for prefix, count in (("train", 12), ("t10k", 4)):
        pixels = np.arange(count * 784).reshape(count, 28, 28) % 251
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(pixels)))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(count) % 10)))


def test_data_folder_goes_before_the_system_folder(settings: Any, tmp_path: Path) -> None:
    write_fashion(tmp_path / "fashion-mnist")
    train = open_source(settings("fashion-mnist", "unique"), split="train", data_dir=tmp_path)
    assert train.images == 12
    assert train.fetch(torch.tensor([1]))[0, 0, 0, :3].tolist() == [784 % 251, 785 % 251, 786 % 251]


def test_torn_idx_file_is_named(settings: Any, tmp_path: Path) -> None:
    folder = tmp_path / "fashion-mnist"
    write_fashion(folder)
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(LscError, match=r"train-images-idx3-ubyte\.gz"):
        open_source(settings("fashion-mnist"), split="train", data_dir=tmp_path)


def test_download_without_a_network_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import FashionMNIST

    # Port 9 of the own machine: refused at once, as without a network.
    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(LscError, match="dataset-fashion-mnist"):
        fashion_mnist.FashionMnist().download(tmp_path, lambda _: None)


# ---------------------------------------------------------------------------------------------------------- cifar10
def write_cifar(folder: Path, monkeypatch: pytest.MonkeyPatch, per_batch: int = 20) -> None:
    """Batches as the published ones are written: a pickle of protocol 2 with bytes for keys."""
    folder.mkdir(parents=True)
    sums = {}
    for number, name in enumerate(cifar10.checksums()):
        pixels = np.random.default_rng(number).integers(0, 256, (per_batch, 3072), dtype=np.uint8)
        batch = {b"batch_label": b"x", b"labels": [i % 10 for i in range(per_batch)], b"data": pixels}
        content = pickle.dumps(batch, protocol=2)
        (folder / name).write_bytes(content)
        sums[name] = hashlib.md5(content).hexdigest()
    monkeypatch.setattr(cifar10, "checksums", lambda: sums)


def test_cifar10(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path / "cifar-10-batches-py", monkeypatch)
    train = open_source(settings("cifar10"), split="train", data_dir=tmp_path)
    val = open_source(settings("cifar10", classes=4), split="val", data_dir=tmp_path)
    assert val is not None
    assert (train.images, train.size, train.channels, val.images, val.classes) == (100, 32, 3, 8, 4)
    first = np.random.default_rng(0).integers(0, 256, (20, 3072), dtype=np.uint8)[0]
    assert torch.equal(train.fetch(torch.tensor([0])).flatten(), torch.from_numpy(first))


def test_cifar10_altered_file_is_refused(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    write_cifar(folder, monkeypatch)
    path = folder / "data_batch_3"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(LscError, match=r"data_batch_3 is not the published file"):
        open_source(settings("cifar10"), split="train", data_dir=tmp_path)


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_pickle_bomb_in_a_cifar_batch_does_not_go_off(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "went-off"
    content = pickle.dumps({b"labels": [0], b"data": Bomb(target)}, protocol=protocol)
    with pytest.raises(LscError, match="is refused: not plain data"):
        cifar10.plain_batch(content, "data_batch_1")
    assert not target.exists()
    pickle.loads(content)  # the same bytes do go off elsewhere
    assert target.exists()


# ------------------------------------------------------------------------------------------- folders of image files
def names(prefix: str, count: int, suffix: str = "JPEG") -> list[str]:
    return [f"{prefix}_{i:02d}.{suffix}" for i in range(count)]


def test_cinic10_without_cifar_images(settings: Any, image_folder: Callable[..., Path], tmp_path: Path) -> None:
    cifar = names("cifar10-train", 3, "png")
    classes = {"airplane": [*names("n01", 4, "png"), *cifar], "truck": [*names("n02", 2, "png"), *cifar]}
    image_folder("cinic10", {"train": classes, "valid": classes, "test": classes}, (32, 32))
    train = open_source(settings("cinic10"), split="train", data_dir=tmp_path)
    val = open_source(settings("cinic10"), split="val", data_dir=tmp_path)
    assert val is not None
    assert (train.images, val.images, train.size) == (6, 6, 32)
    assert train.labels(torch.arange(6)).tolist() == [0, 0, 0, 0, 1, 1]
    stored = np.asarray(Image.open(tmp_path / "cinic10/train/airplane/n01_00.png"))
    assert torch.equal(train.fetch(torch.tensor([0]))[0], torch.from_numpy(stored.transpose(2, 0, 1).copy()))


def imagenet(image_folder: Callable[..., Path]) -> Path:
    classes = {"n01440764": names("n01440764", 5), "n01443537": names("n01443537", 3), "n02": names("n02", 4)}
    val = {label: names("ILSVRC2012_val", 2) for label in classes}
    return image_folder("imagenet", {"train": classes, "val": val})


@pytest.mark.parametrize("size", [32, 80])
def test_imagenet(settings: Any, image_folder: Callable[..., Path], tmp_path: Path, size: int) -> None:
    root = imagenet(image_folder)
    data = settings("imagenet", classes=2, image_size=size)
    train = open_source(data, split="train", data_dir=tmp_path)
    val = open_source(data, split="val", data_dir=tmp_path)
    assert val is not None
    assert (train.images, train.classes, val.images) == (8, 2, 4)
    assert train.labels(torch.arange(8)).tolist() == [0] * 5 + [1] * 3
    expected = decode(root / "train/n01443537/n01443537_01.JPEG", size)
    assert np.array_equal(train.fetch(torch.tensor([6]))[0].numpy().transpose(1, 2, 0), expected)
    unique = open_source(settings("imagenet", "unique", 7, size), split="train", data_dir=tmp_path)
    assert (unique.images, unique.classes) == (7, 7)
    assert torch.equal(unique.fetch(torch.tensor([6])), train.fetch(torch.tensor([6])))
    assert (tmp_path / "packed").exists() == (size <= 64)


def test_streamed_where_it_does_not_fit(
    settings: Any, image_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imagenet(image_folder)
    data = settings("imagenet", image_size=80)
    resident = open_source(data, split="train", data_dir=tmp_path)
    monkeypatch.setattr("lsc_engine.data.source.device_memory", lambda _: 4 * 12 * 3 * 80 * 80 - 4)
    streamed = open_source(data, split="train", data_dir=tmp_path)
    assert isinstance(resident, TensorSource)
    assert isinstance(streamed, StreamedSource)
    index = torch.tensor([11, 0, 7])
    assert torch.equal(resident.fetch(index), streamed.fetch(index))
    assert torch.equal(resident.labels(index), streamed.labels(index))


def test_folder_of_loose_images_with_unique_labels(settings: Any, image_folder: Callable[..., Path]) -> None:
    root = image_folder("mine", {".": {".": names("x", 5)}})
    source = open_source(settings("folder", "unique", None, 80, str(root)), split="train")
    assert (source.images, source.classes) == (5, 5)


def test_odd_image_files_become_rgb(tmp_path: Path) -> None:
    for mode, suffix in (("L", "jpg"), ("CMYK", "jpg"), ("P", "png"), ("RGBA", "png"), ("I;16", "png"), ("1", "png")):
        path = tmp_path / f"{mode.replace(';', '')}.{suffix}"
        Image.new(mode, (50, 30)).save(path)
        assert decode(path, 16).shape == (16, 16, 3)


def test_middle_square_is_what_is_kept(tmp_path: Path) -> None:
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    kept = decode(tmp_path / "a.png", 8)
    assert (kept[:, 2:-2] == 200).all()
    assert kept.min() > 150  # bicubic weights reach a little beyond the edge


def test_damaged_image_is_named(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(buffer, "png")
    (tmp_path / "torn.png").write_bytes(buffer.getvalue()[:60])
    with pytest.raises(LscError, match=r"torn\.png cannot be read as an image"):
        decode(tmp_path / "torn.png", 8)


def test_flat_validation_folder_is_explained(settings: Any, image_folder: Callable[..., Path], tmp_path: Path) -> None:
    image_folder("imagenet", {"train": {"a": names("x", 2)}, "val": {".": names("v", 2)}})
    with pytest.raises(UsageError, match="has no class folders"):
        open_source(settings("imagenet", image_size=80), split="val", data_dir=tmp_path)


def test_validation_class_that_training_lacks(settings: Any, image_folder: Callable[..., Path], tmp_path: Path) -> None:
    image_folder("imagenet", {"train": {"a": names("x", 2)}, "val": {"b": names("v", 2)}})
    with pytest.raises(UsageError, match="class b is not among the training classes"):
        open_source(settings("imagenet", image_size=80), split="val", data_dir=tmp_path)


def test_no_validation_folder_is_no_validation(
    settings: Any, image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    image_folder("imagenet", {"train": {"a": names("x", 2)}})
    assert open_source(settings("imagenet", image_size=80), split="val", data_dir=tmp_path) is None


@pytest.mark.parametrize("name", ["cifar10", "cinic10", "imagenet"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_missing_data_says_what_to_put_where_and_creates_nothing(
    settings: Any, tmp_path: Path, name: str, split: str
) -> None:
    absent = tmp_path / "data"
    with pytest.raises(UsageError, match=f"{name} is not in {absent}"):
        open_source(settings(name, image_size=32), split=split, data_dir=absent)
    assert not absent.exists()


def test_image_size_is_required_for_imagenet(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"data\.image_size"):
        ImageNet().open(Selection(data_dir=tmp_path), "train", torch.device("cpu"), lambda _: None)


def test_misspelt_names_are_told(settings: Any) -> None:
    with pytest.raises(UsageError, match='did you mean "digits"'):
        open_source(settings("digtis"), split="train")
    with pytest.raises(UsageError, match='did you mean "val"'):
        open_source(settings("digits"), split="vall")


def test_waiting_for_streamed_images_is_counted(
    settings: Any, image_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imagenet(image_folder)
    data = settings("imagenet", image_size=80)
    resident = Batches(open_source(data, split="train", data_dir=tmp_path), 4, 0, workers=0)
    monkeypatch.setattr("lsc_engine.data.source.device_memory", lambda _: 4 * 12 * 3 * 80 * 80 - 4)
    streamed = Batches(open_source(data, split="train", data_dir=tmp_path), 4, 0, workers=0)
    ticks = itertools.count()
    monkeypatch.setattr("lsc_engine.data.batches.time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    ours, same = streamed.from_step(0), resident.from_step(0)
    for _ in range(4):
        assert torch.equal(next(ours).images, next(same).images)
    assert resident.waited is None
    # One tick of this clock for each batch that was read.
    assert streamed.waited == next(ticks) / 2 >= 4
