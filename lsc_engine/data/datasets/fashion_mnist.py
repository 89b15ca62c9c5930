"""Fashion-MNIST: 60 000 + 10 000 images, 28×28, one channel (Xiao et al., arXiv:1708.07747), from its IDX files.

The four gzipped (or unpacked) files are looked for in the data folder and where Debian's dataset-fashion-mnist puts
them; else they are downloaded into the data folder from the addresses, and checked with the MD5 sums, of torchvision.
"""

from __future__ import annotations

import gzip
import socket
import zlib
from pathlib import Path

from lsc_engine.common.deferred import np
from lsc_engine.common.errors import LscError
from lsc_engine.data.dataset import DataSet, Facts, Place, Report, Selection, data_folder
from lsc_engine.registry import DATASETS

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "val": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_MARK = FILES["train"][0]
_PLACES = ("fashion-mnist", "FashionMNIST/raw", "fashion-mnist/FashionMNIST/raw")
_SECONDS_WITHOUT_NEWS = 20.0
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


@DATASETS.register("fashion-mnist")
class FashionMnist(DataSet):
    """Downloaded on first use."""

    position = 20
    facts = Facts(
        *("fashion-mnist", "Fashion-MNIST", 60_000, 10_000, 10, 28, 1),
        places=tuple((place, _MARK) for place in _PLACES),
        system_places=(("/usr/share/datasets/fashion-mnist", _MARK),),
        how="it is downloaded on first use; without a network install Debian's package dataset-fashion-mnist, "
        f"or put the four files {_MARK}.gz … there (github.com/zalandoresearch/fashion-mnist)",
        class_names=CLASSES,
    )

    def obtain(self, chosen: Selection, report: Report) -> Path | None:
        if chosen.path is None and self.locate(chosen.data_dir) is None:
            return self.download(chosen.data_dir, report)
        return super().obtain(chosen, report)

    def download(self, data_dir: Place, report: Report) -> Path:
        """Fetch the four files into the data folder; where they are. LscError where the network is not there."""
        from torchvision.datasets import FashionMNIST

        folder = data_folder(data_dir) / "fashion-mnist"
        report(f"downloading Fashion-MNIST (30 MB) into {folder}")
        waited = socket.getdefaulttimeout()
        socket.setdefaulttimeout(_SECONDS_WITHOUT_NEWS)
        try:
            return Path(FashionMNIST(folder, download=True).raw_folder)
        except (OSError, RuntimeError) as error:
            why = " ".join(str(error).split())
            raise LscError(
                f"Fashion-MNIST could not be downloaded ({why}). Install Debian's package dataset-fashion-mnist, or "
                f"put the four files *-ubyte.gz into {folder}"
            ) from None
        finally:
            socket.setdefaulttimeout(waited)

    def load(self, split: str, unique: bool, folder: Path | None) -> tuple[np.ndarray, np.ndarray]:
        images, labels = ((folder or Path()) / name for name in FILES[split])
        pixels, found = read_idx(images), read_idx(labels)
        if pixels.ndim != 3 or found.shape != pixels.shape[:1]:
            raise LscError(f"{images}: {pixels.shape} images do not go with {found.shape} labels")
        if found.size and int(found.max()) > 9:
            raise LscError(f"{labels}: label {int(found.max())} is not one of the ten classes")
        return pixels[:, None], found.astype(np.int64)


def read_idx(path: Path) -> np.ndarray:
    """An IDX file of unsigned bytes, `path` or `path`.gz: magic 0, 0, 8, rank; big-endian sizes; the data."""
    packed = path.with_name(f"{path.name}.gz")
    where = packed if packed.exists() else path
    try:
        content = gzip.decompress(where.read_bytes()) if where == packed else where.read_bytes()
    except FileNotFoundError:
        raise LscError(f"{packed} is missing; the data set needs all four files") from None
    except (OSError, EOFError, zlib.error) as error:
        raise LscError(f"{where} cannot be read: {error}") from None
    rank = content[3] if len(content) >= 4 else 0
    shape = tuple(int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank))
    start = 4 + 4 * rank
    if content[:3] != b"\x00\x00\x08" or not 1 <= rank <= 4 or len(content) != start + int(np.prod(shape)):
        raise LscError(f"{where} is not a whole IDX file; delete it and get it again")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)
