"""Characters drawn in the fonts of this machine: a class is a character, an image a font that draws it.

Validation images come from font families that training never sees; regions, widths and weights of one design are one
family. Characters come in falling number of families that draw them, then by code point. Left out are blank glyphs,
compatibility forms (those that Unicode's NFKC replaces), and characters that some font draws exactly as one before
them, a box for missing glyphs included. Letters stand on a common base line, at 3/4 of the image's height.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import unicodedata
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from lsc_engine.common.deferred import np, torch
from lsc_engine.common.errors import UsageError
from lsc_engine.common.formatting import grouped
from lsc_engine.common.safe_io import whole_file
from lsc_engine.common.userpaths import home, user_path
from lsc_engine.data.dataset import Counts, DataSet, Facts, Place, Report, Selection, data_folder
from lsc_engine.data.datasets import digits
from lsc_engine.data.source import ImageSource, TensorSource
from lsc_engine.registry import DATASETS

TRAIN_FAMILIES, VAL_FAMILIES = 2, 1
# One font family in this many is kept for validation, unless that leaves fewer classes.
HELD_OUT = 5
_UNIX = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts")
FOLDERS = (*_UNIX, "/Library/Fonts", "/System/Library/Fonts")
PACKAGES = (
    "fonts-dejavu fonts-liberation fonts-freefont-ttf fonts-noto-core for 2 500 letters and signs; fonts-noto-cjk "
    "fonts-arphic-uming fonts-arphic-ukai fonts-wqy-zenhei fonts-wqy-microhei for more than 20 000 Han characters"
)
_COLOURED = ("CBDT", "COLR", "sbix")
_FORMAT, _SIZE, _BASE = 1, 32, 0.75
_REGIONS = frozenset(("CN", "HK", "JP", "KR", "MBE", "SC", "TC", "TW"))
_STYLES = (
    "Black|Bold|Book|Condensed|Display|Extra|ExtraBold|ExtraLight|Hairline|Heavy|Italic|Light|Math|Medium|Mono|Narrow|"
    "Oblique|Regular|Semi|SemiBold|Semibold|Sharp|Thin|UI"
)
_STYLE = re.compile("|".join((*_REGIONS, _STYLES)))


@dataclass(frozen=True)
class Face:
    """One style of a font. `family`: the design that it belongs to; `characters`: code points, those that can be
    classes."""

    file: str
    number: int
    name: str
    family: str
    characters: frozenset[int]


@dataclass(frozen=True)
class Fonts:
    """`faces`, those that validate last; `held_out`: their families; `order`: the code points of all classes that the
    tables of the fonts allow, best covered first; `key`: a hash of the names, sizes and times of the files."""

    faces: tuple[Face, ...]
    held_out: tuple[str, ...]
    order: tuple[int, ...]
    key: str

    @property
    def families(self) -> int:
        return len({face.family for face in self.faces})


@dataclass(frozen=True)
class Drawn:
    """`pixels` uint8 [N, 1, size, size], `labels` and `faces` int64 [N] (place in Fonts.faces), `val` bool [N]: whether
    the image validates; by class, `characters[label]`."""

    pixels: np.ndarray
    labels: np.ndarray
    faces: np.ndarray
    val: np.ndarray
    characters: tuple[str, ...]


def design(name: str) -> str:
    """The family that a font of this name is a part of: "DejaVu Sans" for "DejaVu Sans Mono", "Noto Serif" for
    "Noto Serif CJK JP", whose parts for other scripts come from the same hands."""
    if name.startswith(("cm", "Computer Modern")):
        return "Computer Modern"
    words = name.split()
    while len(words) > 2 and _STYLE.fullmatch(words[-1]):
        words.pop()
    return " ".join(words[:2] if words[0] == "Noto" else words)


def find_fonts(folder: Place = None) -> Fonts:
    """The fonts in `folder`, by default those of this machine and the text fonts that matplotlib brings."""
    files = _files(folder)
    stamp = tuple((file, (status := os.stat(file)).st_size, status.st_mtime_ns) for file in files)
    return _read(stamp)


def _files(folder: Place) -> list[str]:
    own = digits.PrintedDigits().locate()
    brought = [own / f"{font}.ttf" for font in digits.FONTS] if own and folder is None else []
    usual = [top for top in FOLDERS if home() is not None or not top.startswith("~")]
    tops = [user_path(top) for top in (usual if folder is None else (folder,))]
    found = {
        os.path.join(where, name)
        for top in tops
        for where, _, names in os.walk(top)
        for name in names
        if name.lower().endswith((".ttf", ".otf", ".ttc", ".otc"))
    }
    return [str(file) for file in brought if file.exists()] + sorted(file for file in found if os.path.isfile(file))


@lru_cache(maxsize=4)
def _read(stamp: tuple[tuple[str, int, int], ...]) -> Fonts:
    faces: dict[tuple[str, str], Face] = {}
    for file, _, _ in stamp:
        _add_faces(file, faces)
    held_out, order = _split(list(faces.values()))
    ordered = sorted(faces.items(), key=lambda item: (item[1].family in held_out, item[1].family, item[0]))
    key = hashlib.sha256(repr((_FORMAT, stamp)).encode()).hexdigest()[:16]
    return Fonts(tuple(face for _, face in ordered), held_out, order, key)


def _add_faces(file: str, faces: dict[tuple[str, str], Face]) -> None:
    """Add the faces in a file by name and style, but those known, which other regions of a design are; none of a file
    that is damaged or has pictures in colour."""
    # It comes with matplotlib.
    from fontTools.ttLib import TTCollection, TTFont, TTLibError

    with contextlib.suppress(OSError, TTLibError, ValueError, KeyError, AssertionError), open(file, "rb") as opened:
        several = opened.read(4) == b"ttcf"
        opened.seek(0)
        for number in range(len(TTCollection(opened, lazy=True)) if several else 1):
            opened.seek(0)
            font = TTFont(opened, fontNumber=number, lazy=True)
            names = font["name"]
            whole = names.getDebugName(16) or names.getDebugName(1) or Path(file).stem
            style = names.getDebugName(17) or names.getDebugName(2) or ""
            name = " ".join(word for word in whole.split() if word not in _REGIONS)
            if (name, style) in faces or any(table in font for table in _COLOURED):
                continue
            cmap = font.getBestCmap() or {}
            drawn = frozenset(code for code, glyph in cmap.items() if glyph != ".notdef" and _can_be_class(code))
            faces[name, style] = Face(file, number, name, design(name), drawn)


@cache
def _can_be_class(code: int) -> bool:
    character = chr(code)
    visible = unicodedata.category(character)[0] in "LNPS"
    return visible and unicodedata.normalize("NFKC", character) == character


def _split(faces: list[Face]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The families that validate and the code points of the classes: families are held out one by one, each time the
    one that leaves most classes, and no further one that costs classes."""
    families = sorted({face.family for face in faces})
    codes = np.array(sorted(set().union(*(face.characters for face in faces))), dtype=np.int64)
    draws = np.zeros((len(families), len(codes)), dtype=bool)
    for face in faces:
        draws[families.index(face.family), np.searchsorted(codes, sorted(face.characters))] = True

    def classes(held_out: list[int]) -> np.ndarray:
        val = draws[held_out].sum(0)
        valid: np.ndarray = (val >= VAL_FAMILIES) & (draws.sum(0) - val >= TRAIN_FAMILIES)
        return valid

    held_out: list[int] = []
    while len(held_out) < max(1, len(families) // HELD_OUT) and len(held_out) < len(families):
        rest = [family for family in range(len(families)) if family not in held_out]
        best = max(rest, key=lambda family: int(classes([*held_out, family]).sum()))
        if held_out and classes([*held_out, best]).sum() < classes(held_out).sum():
            break
        held_out.append(best)
    valid = np.flatnonzero(classes(held_out)) if held_out else np.zeros(0, dtype=np.int64)
    order = valid[np.lexsort((codes[valid], -draws[:, valid].sum(0)))]
    return tuple(families[family] for family in held_out), tuple(codes[order].tolist())


def draw(fonts: Fonts, size: int, *, classes: int | None = None, images: int | None = None) -> Drawn:
    """The first characters drawn by the fonts: `classes` of them, or enough for `images` training images."""
    from PIL import Image, ImageDraw, ImageFont

    def opened(size: int) -> list[Any]:
        height, basic = round(0.75 * size), ImageFont.Layout.BASIC
        return [ImageFont.truetype(each.file, height, each.number, layout_engine=basic) for each in fonts.faces]

    def image(font: Any, character: str, size: int) -> bytes:
        sheet = Image.new("L", (size, size))
        ImageDraw.Draw(sheet).text((size // 2, round(_BASE * size)), character, 255, font, "ms")
        return sheet.tobytes()

    small = opened(_SIZE)
    large = small if size == _SIZE else opened(size)
    blank = bytes(_SIZE * _SIZE)
    first_val = next((i for i, each in enumerate(fonts.faces) if each.family in fonts.held_out), len(fonts.faces))
    seen: list[set[bytes]] = [set() for _ in fonts.faces]
    pixels: list[bytes] = []
    labels: list[int] = []
    numbers: list[int] = []
    characters: list[str] = []
    trained = 0
    for code in fonts.order:
        if len(characters) == classes or (images is not None and trained >= images):
            break
        character, looks = chr(code), {}
        for number, face in enumerate(fonts.faces):
            if code in face.characters and (look := image(small[number], character, _SIZE)) != blank:
                looks[number] = look
        if any(look in seen[number] for number, look in looks.items()):
            continue
        kept = list({look: number for number, look in reversed(looks.items())}.values())[::-1]
        families = [{fonts.faces[n].family for n in kept if (n >= first_val) == val} for val in (False, True)]
        if len(families[0]) < TRAIN_FAMILIES or len(families[1]) < VAL_FAMILIES:
            continue
        for number, look in looks.items():
            seen[number].add(look)
        pixels += [looks[n] if size == _SIZE else image(large[n], character, size) for n in kept]
        labels += [len(characters)] * len(kept)
        numbers += kept
        trained += sum(n < first_val for n in kept)
        characters.append(character)
    drawn = np.frombuffer(b"".join(pixels), dtype=np.uint8).reshape(-1, 1, size, size)
    which = np.array(numbers, dtype=np.int64)
    return Drawn(drawn, np.array(labels, dtype=np.int64), which, which >= first_val, tuple(characters))


@DATASETS.register("glyphs")
class Glyphs(DataSet):
    """`data.path` names a folder of other fonts than this machine's. What was drawn is kept in the data folder."""

    position = 75
    counted_late = True
    other_classes = True
    title = "characters in the fonts of this machine, validated on unseen font families"
    how = f"install fonts of several families, as Debian's packages {PACKAGES}"
    facts = Facts("glyphs", title, None, None, None, _SIZE, 1, how=how)

    def locate(self, data_dir: Place = None, path: Place = None) -> Path | None:
        """A folder that holds fonts."""
        files = _files(path)
        if path is not None:
            return user_path(path) if files else None
        return Path(files[-1]).parent if files else None

    def describe(self) -> str | None:
        fonts = find_fonts()
        held_out = f"validation on {', '.join(fonts.held_out)}" if fonts.order else f"too few: {self.facts.how}"
        return f"{grouped(len(fonts.order))} characters in {fonts.families} font families, {held_out}"

    def count(self, chosen: Selection) -> Counts:
        unique, classes = chosen.unique, chosen.classes
        if chosen.path is not None and not _files(chosen.path):
            return Counts(None, classes, 0, exact=False)
        fonts = find_fonts(chosen.path)
        file = _file(fonts, chosen, _SIZE)
        exact = file in _IN_MEMORY or file.exists()
        if exact:
            drawn = _kept(fonts, file, _SIZE, classes, unique)
            found, images, val_images = len(drawn.characters), int((~drawn.val).sum()), int(drawn.val.sum())
        else:
            # By the tables of the fonts alone: at least as many as will be drawn.
            codes = fonts.order[: None if unique else classes]
            found, sizes = len(codes), [0, 0]
            for face in fonts.faces:
                sizes[face.family in fonts.held_out] += len(face.characters.intersection(codes))
            images, val_images = sizes
        self._check(fonts, found, None if unique else classes)
        if unique:
            images = images if classes is None else min(images, classes)
            return Counts(images, images, 0, exact)
        return Counts(images, found, val_images, exact)

    def class_sizes(self, chosen: Selection) -> list[int]:
        drawn = self._drawn(chosen, _SIZE)
        sizes: list[int] = np.bincount(drawn.labels[~drawn.val], minlength=chosen.classes or 0).tolist()
        return sizes

    def _check(self, fonts: Fonts, found: int, classes: int | None) -> None:
        few = f"{len(fonts.faces)} fonts of {fonts.families} families draw {found:,} characters that"
        few += f" differ, each in {TRAIN_FAMILIES} families to train on and {VAL_FAMILIES} to validate on"
        if found < 2:
            raise UsageError(f"data.dataset: glyphs: {few}; {self.facts.how}")
        if classes is not None and found < classes:
            raise UsageError(f"data.classes: {few}; the preset wants {classes:,}; take fewer, or {self.facts.how}")

    def _drawn(self, chosen: Selection, size: int) -> Drawn:
        """The characters drawn, or read from the data folder. UsageError where the fonts have too few."""
        fonts = find_fonts(chosen.path)
        found = _kept(fonts, _file(fonts, chosen, size), size, chosen.classes, chosen.unique)
        self._check(fonts, len(found.characters), None if chosen.unique else chosen.classes)
        return found

    def count_exactly(self, chosen: Selection) -> None:
        self._drawn(chosen, _SIZE)

    def open(self, chosen: Selection, split: str, device: torch.device, report: Report) -> ImageSource | None:
        unique = chosen.unique
        if unique and split == "val":
            return None
        self.obtain(chosen, report)
        drawn = self._drawn(chosen, chosen.size or _SIZE)
        rows = drawn.val if split == "val" else ~drawn.val
        first = slice(chosen.classes if unique else None)
        pixels, labels = (torch.from_numpy(each[rows][first]) for each in (drawn.pixels, drawn.labels))
        classes = len(pixels) if unique else len(drawn.characters)
        source = TensorSource(pixels, None if unique else labels, classes=classes, device=device)
        source.class_names = () if unique else drawn.characters
        fonts = find_fonts(chosen.path)
        used = [fonts.faces[number] for number in sorted(set(drawn.faces.tolist()))]
        names = [f"{face.name} {Path(face.file).stem}" for face in used]
        content = repr((drawn.characters, names, drawn.labels.tolist(), drawn.faces.tolist())).encode()
        files = hashlib.sha256(content).hexdigest()
        source.record = {"files": files, "fonts": names, "validation": list(fonts.held_out)}
        return source


# What `_kept` has made in this process.
_IN_MEMORY: set[Path] = set()


def _file(fonts: Fonts, chosen: Selection, size: int) -> Path:
    what = "all" if chosen.classes is None else f"{chosen.classes}{'-images' if chosen.unique else ''}"
    return data_folder(chosen.data_dir) / "packed" / f"glyphs-{fonts.key}-{what}-{size}px.npz"


@lru_cache(maxsize=4)
def _kept(fonts: Fonts, file: Path, size: int, classes: int | None, unique: bool) -> Drawn:
    """What was drawn before, from the data folder; else it is drawn and, where the folder can be written to, kept."""
    _IN_MEMORY.add(file)
    with contextlib.suppress(OSError, ValueError, KeyError), np.load(file) as kept:
        return Drawn(kept["pixels"], kept["labels"], kept["faces"], kept["val"], tuple(map(chr, kept["codes"])))
    drawn = draw(fonts, size, images=classes) if unique else draw(fonts, size, classes=classes)
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as part, open(part, "wb") as opened:
            codes = np.array([ord(character) for character in drawn.characters], dtype=np.int64)
            np.savez(opened, pixels=drawn.pixels, labels=drawn.labels, faces=drawn.faces, val=drawn.val, codes=codes)
    return drawn
