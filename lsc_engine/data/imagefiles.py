"""Reading single image files: any format, mode and size of image becomes a small RGB square, by `decode`.

16 bits per channel   scaled to 8: value / 257, or by the file's own number of bits
transparency          composed on white
EXIF orientation      applied before the middle square is cut out
palettes, grey, 1 bit, CMYK, LAB   turned to RGB
floating point        refused: the files do not say which values are black and white
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from lsc_engine.common.deferred import Tensor, np, torch
from lsc_engine.common.errors import LscError
from lsc_engine.data.class_folders import file_fault, link_to_nothing
from lsc_engine.data.listing import ImageFiles

if TYPE_CHECKING:
    from PIL import Image

# Increased whenever `decode` gives other pixels for a file: packed copies of another version are made anew.
DECODER = 2
# Pixels of the largest picture that is decoded, which takes three to four bytes for each.
LARGEST_PIXELS = 178_956_970
_ORIENTATION = 0x0112
_TIFF_BITS, _TIFF_PHOTOMETRIC = 258, 262
# What goes wrong in the file itself; other errors of the system (a disk that fails, no memory) end the reading.
_OF_THE_FILE = (errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.EINVAL)


class BadImageError(LscError):
    """One file that cannot be used as an image: `path`, and `why` as a clause."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why)
        self.path, self.why = path, why

    def __str__(self) -> str:
        return f"{self.path} {self.why}"


class FileReader:
    """Reads image files, each brought to size × size: the middle square, then an antialiased reduction."""

    channels = 3

    def __init__(self, files: ImageFiles, size: int) -> None:
        self.files = files
        self.size = size

    def read(self, index: Tensor) -> Tensor:
        """int64 [B] -> uint8 [B, 3, size, size]. BadImageError for a file that cannot be used, LscError for one that
        vanished."""
        images, bad = self.read_usable(index)
        for number, why in bad:
            raise BadImageError(str(self.files.path(number)), why)
        return images

    def read_usable(self, index: Tensor) -> tuple[Tensor, list[tuple[int, str]]]:
        """int64 [B] -> uint8 [G, 3, size, size], the images that can be used, in order, and (number, why) of the
        others. LscError for a file that vanished."""
        good = [np.empty((0, self.size, self.size, 3), dtype=np.uint8)]
        bad: list[tuple[int, str]] = []
        for number in index.tolist():
            try:
                good.append(decode(self.files.path(number), self.size)[None])
            except BadImageError as error:
                bad.append((number, error.why))
        return torch.from_numpy(np.concatenate(good)).permute(0, 3, 1, 2).contiguous(), bad


def decode(path: Path, size: int) -> np.ndarray:
    """One image file -> uint8 [size, size, 3]: the middle square of the upright picture, bicubic with antialiasing,
    always RGB. BadImageError for a file that cannot be used, LscError for one that vanished or a disk that fails."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    if Image.MAX_IMAGE_PIXELS is not None:
        # Pillow's own limit of size and its log lines off: the size is checked here, with the name of the file.
        Image.MAX_IMAGE_PIXELS = None
        logging.getLogger("PIL").setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            # Warnings of Pillow concern files that it reads all the same; they name neither the file nor a remedy.
            warnings.simplefilter("ignore")
            # Opening a pipe would wait for ever.
            if (why := file_fault(os.stat(path))) is not None:
                raise BadImageError(str(path), why)
            with Image.open(path) as image:
                whole = image.size
                # JPEG files are decoded at the smallest of 1, 1/2, 1/4, 1/8 that still holds twice the size, but
                # progressive ones keep the coefficients of the whole picture in memory.
                image.draft("RGB", (2 * size, 2 * size))
                width, height = whole if "progressive" in image.info else image.size
                if width * height > LARGEST_PIXELS:
                    large = f"has {width:,} × {height:,} pixels, more than the {LARGEST_PIXELS:,} that are decoded"
                    do = "save it smaller, or as baseline JPEG, which is read at reduced size"
                    raise BadImageError(str(path), f"{large}; {do}")
                image.load()
                square = _middle(to_rgb(image), size)
                # The middle square of a turned picture is the turned middle square, so that only the small one is
                # turned. Damaged EXIF data raises errors of many kinds.
                with contextlib.suppress(Exception):
                    square.getexif()[_ORIENTATION] = image.getexif().get(_ORIENTATION, 1)
                    ImageOps.exif_transpose(square, in_place=True)
    except FileNotFoundError:
        if os.path.islink(path):
            raise BadImageError(str(path), link_to_nothing(path)) from None
        raise LscError(f"{path} has vanished while it is in use; put it back and resume") from None
    except LscError:
        raise
    except MemoryError:
        raise LscError(f"{path}: not enough memory to decode it; train with fewer processes, or free memory") from None
    except UnidentifiedImageError:
        raise BadImageError(str(path), "cannot be read as an image: it is not an image of a known format") from None
    except OSError as error:
        if error.errno is not None and error.errno not in _OF_THE_FILE:
            raise LscError(f"{path}: {error.strerror or error}; check the disk and resume") from None
        raise BadImageError(str(path), _clause(error)) from None
    except Exception as error:  # Pillow's decoders raise errors of many kinds for damaged files
        raise BadImageError(str(path), _clause(error)) from None
    return np.asarray(square)


def to_rgb(image: Image.Image) -> Image.Image:
    """A loaded picture of any mode in RGB. BadImageError for modes without a known scale."""
    if image.mode == "F":
        unknown = "holds floating-point values without a known scale; save it with 8 or 16 bits"
        raise BadImageError(_name(image), unknown)
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_16_bits(image)
    if image.mode == "LAB":
        return _from_lab(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    from PIL import Image

    colour = image.info.get("transparency")
    if isinstance(colour, tuple) and max(colour) > 255:  # of a PNG file of 16 bits, whose pixels Pillow brings to 8
        image.info["transparency"] = tuple(value >> 8 for value in colour)
    # A transparent palette entry or colour becomes an alpha channel. La is LA with the grey multiplied by alpha.
    clear = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    white = Image.new("RGBA", clear.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, clear).convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits -> RGB: 65535, or the largest value of the file's number of bits, becomes 255."""
    from PIL import Image

    values = np.asarray(image).astype(np.int64)
    largest = 65535
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_TIFF_BITS, (16,))[0]
    if 8 < bits < 16:
        largest = 2**bits - 1
    if values.size and (values.min() < 0 or values.max() > largest):
        found = f"holds values from {values.min()} to {values.max()}, whose scale is not known"
        raise BadImageError(_name(image), f"{found}; save it with 8 or 16 bits")
    if tags.get(_TIFF_PHOTOMETRIC) == 0:  # white is zero
        values = largest - values
    grey = np.rint(values * (255.0 / largest)).astype(np.uint8)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey[values == clear] = 255
    return Image.fromarray(grey).convert("RGB")


def _from_lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    changed = ImageCms.profileToProfile(
        image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    assert changed is not None
    return changed


def _middle(picture: Image.Image, size: int) -> Image.Image:
    from PIL import Image

    width, height = picture.size
    if (width, height) == (size, size):
        return picture
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    square = (left, top, left + side, top + side)
    return picture.resize((size, size), Image.Resampling.BICUBIC, box=square, reducing_gap=3.0)


def _clause(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM):
        return "cannot be read: Permission denied"
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return "is a link that leads to itself"
    words = (str(error).splitlines() or [""])[0] or type(error).__name__
    if "truncated" in words.lower() or isinstance(error, EOFError):
        return "cannot be read as an image: it is truncated"
    return f"cannot be read as an image: {words}"


def _name(image: Image.Image) -> str:
    name = getattr(image, "filename", "")
    return os.fsdecode(name) if isinstance(name, bytes | str) else str(name)


def decoder_version() -> str:
    """What decodes image files here: other versions may differ by a grey level."""
    import PIL

    return f"Pillow {PIL.__version__}"
