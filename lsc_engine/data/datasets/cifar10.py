"""CIFAR-10: 50 000 + 10 000 images, 32×32, three channels (Krizhevsky 2009), from its "python version" files.

Those files are pickles, and a pickle can run any program. Their MD5 sums are compared with torchvision's first, and
they are then read by an unpickler that knows dictionaries, lists, strings, numbers and numpy arrays, and nothing else.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

from lsc_engine.common.deferred import np
from lsc_engine.common.errors import LscError
from lsc_engine.data.dataset import DataSet, Facts
from lsc_engine.registry import DATASETS

_PLACES = ("cifar10/cifar-10-batches-py", "cifar-10-batches-py", "cifar10")
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_ARRAYS = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
_ALLOWED = {"numpy.dtype", "numpy.ndarray", *_ARRAYS, "_codecs.encode"}


def checksums() -> dict[str, str]:
    """File name -> MD5 of the published files, as torchvision lists them."""
    from torchvision.datasets import CIFAR10

    return dict(CIFAR10.train_list + CIFAR10.test_list)


@DATASETS.register("cifar10")
class Cifar10(DataSet):
    """Put there by the user."""

    position = 30
    facts = Facts(
        *("cifar10", "CIFAR-10", 50_000, 10_000, 10, 32, 3),
        places=tuple((place, "data_batch_1") for place in _PLACES),
        how="unpack cifar-10-python.tar.gz from www.cs.toronto.edu/~kriz/cifar.html there, "
        "so that cifar-10-batches-py/data_batch_1 lies in it",
        class_names=CLASSES,
    )

    def load(self, split: str, unique: bool, folder: Path | None) -> tuple[np.ndarray, np.ndarray]:
        """LscError for a file that is missing, altered or not plain data."""
        batches = []
        for name, md5 in sorted(checksums().items()):
            if name.startswith("test" if split == "val" else "data"):
                path = (folder or Path()) / name
                try:
                    content = path.read_bytes()
                except OSError as error:
                    raise LscError(f"{path} cannot be read: {error.strerror or error}") from None
                if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
                    raise LscError(f"{path} is not the published file (MD5 differs); get CIFAR-10 again")
                batches.append(plain_batch(content, str(path)))
        pixels, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        return pixels, labels


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def plain_batch(content: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of a batch file -> uint8 [N, 3, 32, 32] and int64 [N]. LscError for anything but plain data."""
    try:
        batch = _PlainUnpickler(io.BytesIO(content), encoding="bytes").load()
    except pickle.UnpicklingError as error:
        raise LscError(f"{where} is refused: not plain data ({error})") from None
    return batch[b"data"].reshape(-1, 3, 32, 32), np.asarray(batch[b"labels"], dtype=np.int64)
