"""Handwritten digits: 1 797 images, 8×8, one channel (UCI, Alpaydin and Kaynak 1998); and printed ones, 0 to 9 in 21 of
the fonts that matplotlib carries, another data set of the same classes.

What handwritten digits teach can be tested on printed ones (`eval.dataset = "printed-digits"`), as arXiv:2510.04090,
Table 3, tests networks trained on CINIC-10 on CIFAR-10. They are made as the handwritten ones were: scaled into a
bitmap of 32×32, whose pixels that are on are counted in blocks of 4×4, 0 to 16. The training images are condensed and
expanded, the validation images as wide as the font has them.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from lsc_engine.common.deferred import np
from lsc_engine.common.errors import LscError
from lsc_engine.data.dataset import DataSet, Facts, Place, Selection
from lsc_engine.registry import DATASETS

# By class every sixth image validates.
HELD_OUT = 6


@DATASETS.register("digits")
class Digits(DataSet):
    """Comes with scikit-learn."""

    position = 10
    built_in = True
    facts = Facts(
        *("digits", "scikit-learn's handwritten digits", 1797, None, 10, 8, 1),
        how="it comes with scikit-learn: pip install scikit-learn",
        class_images=(146, 154, 152, 152, 151, 151, 150, 146, 146, 149),
        class_val_images=(32, 28, 25, 31, 30, 31, 31, 33, 28, 31),
        class_names=tuple("0123456789"),
    )

    def locate(self, data_dir: Place = None, path: Place = None) -> Path | None:
        """scikit-learn's own folder."""
        spec = importlib.util.find_spec("sklearn")
        return Path(spec.origin).parent / "datasets" / "data" if spec and spec.origin else None

    def load(self, split: str, unique: bool, folder: Path | None) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [N, 1, 8, 8] (0..16 spread over 0..255); every sixth image validates, unless labels are unique."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        pixels = np.rint(digits.images * (255.0 / 16.0)).astype(np.uint8)[:, None]
        labels = digits.target.astype(np.int64)
        if not unique:
            held_out = np.arange(len(labels)) % HELD_OUT == 0
            keep = held_out if split == "val" else ~held_out
            pixels, labels = pixels[keep], labels[keep]
        return pixels, labels


_DEJAVU = [
    f"DejaVu{family}{style}"
    for family, slant in (("Sans", "Oblique"), ("SansMono", "Oblique"), ("Serif", "Italic"))
    for style in ("", "-Bold", f"-Bold{slant}", f"-{slant}")
]
_STIX = [f"STIXGeneral{style}" for style in ("", "Bol", "BolIta", "Italic")]
FONTS = (*_DEJAVU, *_STIX, "cmb10", "cmr10", "cmss10", "cmti10", "cmtt10")
# Widths in parts of the font's own.
WIDTHS = {"train": (0.8, 1.25), "val": (1.0,)}
_DRAWN, _BITMAP, _BLOCK = 96, 32, 4


@DATASETS.register("printed-digits")
class PrintedDigits(DataSet):
    """Comes with matplotlib."""

    position = 80
    built_in = True
    about = ("printed-digits", "digits in 21 fonts that come with matplotlib", 420, 210, 10, 8, 1)
    facts = Facts(*about, class_names=tuple("0123456789"))

    def locate(self, data_dir: Place = None, path: Place = None) -> Path | None:
        """The fonts of matplotlib."""
        spec = importlib.util.find_spec("matplotlib")
        return Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" if spec and spec.origin else None

    def obtain(self, chosen: Selection, report: object) -> Path:
        return self.locate() or Path()

    def load(self, split: str, unique: bool, folder: Path | None) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [N, 1, 8, 8]; 420 images train, 210 validate. LscError where a font is missing."""
        found = [
            (_image((folder or Path()) / f"{font}.ttf", str(digit), width), digit)
            for width in WIDTHS[split]
            for font in FONTS
            for digit in range(10)
        ]
        pixels, labels = zip(*found, strict=True)
        return np.stack(pixels)[:, None], np.array(labels, dtype=np.int64)


def _image(font: Path, text: str, width: float) -> np.ndarray:
    """uint8 [8, 8]: the counts 0 to 16 spread over 0 to 255."""
    from PIL import Image, ImageDraw, ImageFont

    try:
        drawn = ImageFont.truetype(str(font), _DRAWN)
    except OSError as error:
        raise LscError(f"printed-digits: {font} cannot be read; it comes with matplotlib ({error})") from error
    sheet = Image.new("L", (2 * _DRAWN, 2 * _DRAWN))
    ImageDraw.Draw(sheet).text((_DRAWN // 2, _DRAWN // 4), text, fill=255, font=drawn)
    glyph = sheet.crop(sheet.getbbox())
    across = min(_BITMAP, max(1, round(width * _BITMAP * glyph.width / glyph.height)))
    bitmap = np.zeros((_BITMAP, _BITMAP), dtype=bool)
    left = (_BITMAP - across) // 2
    bitmap[:, left : left + across] = np.asarray(glyph.resize((across, _BITMAP))) > 127
    cells = _BITMAP // _BLOCK
    counts = bitmap.reshape(cells, _BLOCK, cells, _BLOCK).sum((1, 3))
    return np.rint(counts * (255.0 / _BLOCK**2)).astype(np.uint8)
