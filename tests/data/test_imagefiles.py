"""Images of every kind become the RGB picture that a viewer shows, or are refused with a sentence."""

from __future__ import annotations

import logging
import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from lsc_engine.common.errors import LscError
from lsc_engine.data.imagefiles import BadImageError, decode

RAMP = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (32, 1))
SIXTEEN = RAMP.astype(np.uint16) * 257


def same(path: Path, twin: np.ndarray, by: int = 2) -> None:
    """`path` reads as the 8-bit picture `twin`, within `by` levels."""
    plain = path.with_name("twin.png")
    Image.fromarray(twin).save(plain)
    assert np.abs(decode(path, 16).astype(int) - decode(plain, 16).astype(int)).max() <= by


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_16_bits_are_scaled_to_8(tmp_path: Path, name: str) -> None:
    Image.fromarray(SIXTEEN).save(tmp_path / name)
    same(tmp_path / name, RAMP)


def test_big_endian_and_32_bit_tiff_with_values_of_16_bits_are_scaled(tmp_path: Path) -> None:
    Image.fromarray(SIXTEEN.astype(">u2")).save(tmp_path / "big.tif")
    same(tmp_path / "big.tif", RAMP)
    Image.fromarray(SIXTEEN.astype(np.int32)).save(tmp_path / "int.tif")
    same(tmp_path / "int.tif", RAMP)


def test_pgm_with_4095_as_white_is_scaled_by_that(tmp_path: Path) -> None:
    twelve = (RAMP.astype(np.uint32) * 4095 // 255).astype(">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5 32 32 4095\n" + twelve.tobytes())
    same(tmp_path / "a.pgm", RAMP)


def test_16_bit_tiff_in_which_zero_is_white(tmp_path: Path) -> None:
    Image.fromarray(65535 - SIXTEEN).save(tmp_path / "a.tif", tiffinfo={262: 0})
    with Image.open(tmp_path / "a.tif") as image:
        assert (image.mode, image.tag_v2[262]) == ("I;16", 0)
    same(tmp_path / "a.tif", RAMP)


def test_colour_png_of_16_bits(tmp_path: Path) -> None:
    rows = b"".join(b"\0" + np.repeat(row.astype(">u2")[:, None], 3, 1).tobytes() for row in SIXTEEN)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 32, 16, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + body)
    same(tmp_path / "a.png", RAMP)


@pytest.mark.parametrize("values", [np.linspace(-1, 1, 1024), np.linspace(0, 1e4, 1024)])
def test_values_without_a_known_scale_are_refused(tmp_path: Path, values: np.ndarray) -> None:
    square = values.reshape(32, 32)
    Image.fromarray(square.astype(np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(BadImageError, match=r"float\.tif holds floating-point values without a known scale"):
        decode(tmp_path / "float.tif", 16)
    Image.fromarray((square * 1e5).astype(np.int32)).save(tmp_path / "long.tif")
    with pytest.raises(BadImageError, match=r"long\.tif holds values from .* whose scale is not known"):
        decode(tmp_path / "long.tif", 16)


def shape_in_alpha(mode: str) -> Image.Image:
    """A black square on nothing."""
    alpha = np.zeros((32, 32), np.uint8)
    alpha[8:24, 8:24] = 255
    image = Image.new(mode, (32, 32))
    image.putalpha(Image.fromarray(alpha))
    return image


SQUARE = np.full((32, 32), 255, np.uint8)
SQUARE[8:24, 8:24] = 0


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_composed_on_white(tmp_path: Path, mode: str, name: str) -> None:
    lossless = {"lossless": True} if name == "a.webp" else {}
    shape_in_alpha(mode).save(tmp_path / name, **lossless)
    same(tmp_path / name, SQUARE)


@pytest.mark.parametrize("name", ["a.png", "a.gif"])
def test_transparent_palette_entries_are_white(tmp_path: Path, name: str) -> None:
    image = Image.fromarray((SQUARE == 0).astype(np.uint8), "P")
    image.putpalette([30, 60, 90, 0, 0, 0])
    image.save(tmp_path / name, transparency=0)
    same(tmp_path / name, SQUARE)


@pytest.mark.parametrize(("mode", "clear"), [("L", 77), ("RGB", (77, 77, 77)), ("I;16", 77 * 257)])
def test_one_transparent_colour_is_white(tmp_path: Path, mode: str, clear: int | tuple[int, ...]) -> None:
    drawn = np.where(SQUARE == 0, 0, 77)
    image = Image.fromarray(drawn.astype(np.uint8)).convert("RGB" if mode == "RGB" else "L")
    if mode == "I;16":
        image = Image.fromarray(drawn.astype(np.uint16) * 257)
    image.save(tmp_path / "a.png", transparency=clear)
    same(tmp_path / "a.png", SQUARE)


def test_the_transparent_colour_of_a_16_bit_png_is_white(tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 3), dtype=">u2")
    pixels[:4] = clear = (1000, 2000, 65535)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0),
        b"tRNS": struct.pack(">HHH", *clear),
        b"IDAT": zlib.compress(rows),
        b"IEND": b"",
    }
    blocks = (struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks.items())
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(blocks))
    found = decode(tmp_path / "a.png", 16)
    assert (found[:4] == 255).all()
    assert (found[4:] == 0).all()


def test_half_transparent_is_halfway_to_white(tmp_path: Path) -> None:
    Image.new("RGBA", (20, 20), (0, 0, 0, 128)).save(tmp_path / "a.png")
    assert set(np.unique(decode(tmp_path / "a.png", 8))) == {127}


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, name: str, orientation: int) -> None:
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:8], pixels[:, :12, 1] = 255, 90
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(pixels).save(tmp_path / name, exif=exif)
    with Image.open(tmp_path / name) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    upright.save(tmp_path / "upright.png")
    found, wanted = decode(tmp_path / name, 8).astype(int), decode(tmp_path / "upright.png", 8).astype(int)
    assert np.abs(found - wanted).max() <= 4


def test_damaged_exif_data_leaves_the_picture_as_it_is(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff", quality=95)
    same(tmp_path / "a.jpg", RAMP, by=6)


@pytest.mark.parametrize(("mode", "name"), [("CMYK", "a.jpg"), ("CMYK", "a.tif"), ("YCbCr", "a.tif"), ("1", "a.png")])
def test_other_modes_keep_light_and_dark(tmp_path: Path, mode: str, name: str) -> None:
    black_and_white = np.where(RAMP > 120, 255, 0).astype(np.uint8)
    Image.fromarray(black_and_white).convert("RGB").convert(mode).save(tmp_path / name)
    same(tmp_path / name, black_and_white, by=12)


def test_lab_is_turned_to_rgb(tmp_path: Path) -> None:
    neutral = Image.new("L", (32, 32), 128)
    Image.merge("LAB", [Image.fromarray(RAMP), neutral, neutral]).save(tmp_path / "a.tif")
    found = decode(tmp_path / "a.tif", 32)[16].astype(int)
    assert found[0].max() < 10
    assert found[-1].min() > 245
    assert np.abs(found - found[:, :1]).max() <= 3  # grey


def test_a_giant_jpeg_is_read_and_a_giant_png_is_refused_with_what_to_do(tmp_path: Path) -> None:
    Image.new("L", (14_000, 13_000), 200).save(tmp_path / "map.jpg", quality=30)
    assert np.abs(decode(tmp_path / "map.jpg", 16).astype(int) - 200).max() <= 2
    # A PNG of 20 000 × 20 000 pixels by its header; nothing of it is decoded.
    Image.new("1", (8, 8)).save(tmp_path / "giant.png")
    content = (tmp_path / "giant.png").read_bytes()
    header = b"IHDR" + struct.pack(">II", 20_000, 20_000) + content[24:29]
    (tmp_path / "giant.png").write_bytes(content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:])
    with pytest.raises(BadImageError, match=r"giant\.png has 20,000 × 20,000 pixels.*save it smaller") as caught:
        decode(tmp_path / "giant.png", 16)
    assert "attack" not in str(caught.value)


def test_a_progressive_jpeg_counts_in_full_since_it_is_held_in_full(tmp_path: Path) -> None:
    Image.new("L", (14_000, 13_000), 200).save(tmp_path / "map.jpg", quality=30, progressive=True)
    with pytest.raises(BadImageError, match="baseline JPEG"):
        decode(tmp_path / "map.jpg", 16)


_QUIET = """
import sys
from pathlib import Path
from lsc_engine.data.imagefiles import decode
for name in sys.argv[1:]:
    decode(Path(name), 16)
"""


def test_warnings_of_the_library_stay_out_of_the_output(tmp_path: Path) -> None:
    palette = Image.fromarray(RAMP).quantize(8)
    palette.save(tmp_path / "pal.png", transparency=bytes([0, 128, 255]))
    Image.new("1", (10_000, 10_000)).save(tmp_path / "large.png")
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x01" * 40
    Image.fromarray(RAMP).save(tmp_path / "exif.jpg", exif=exif)
    files = [str(path) for path in sorted(tmp_path.iterdir())]
    done = subprocess.run([sys.executable, "-c", _QUIET, *files], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_decoding_leaves_the_settings_for_warnings_as_they_are(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    before = list(warnings.filters), logging.getLogger("lsc").level
    decode(tmp_path / "a.png", 8)
    assert (list(warnings.filters), logging.getLogger("lsc").level) == before


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda p: p.write_bytes(b""), "is empty"),
        (lambda p: p.write_text("<html>404</html>"), "not an image of a known format"),
        (lambda p: p.mkdir(), "is a folder, not an image"),
        (lambda p: os.mkfifo(p), "is not a regular file"),
        (lambda p: p.symlink_to("/dev/zero"), "is not a regular file"),
        (lambda p: p.symlink_to("/nowhere/a.png"), "is a link to /nowhere/a.png, which is not there"),
        (lambda p: p.symlink_to(p.name), "is a link that leads to itself"),
    ],
)
def test_what_is_no_image_is_named_with_the_reason(tmp_path: Path, make: object, why: str) -> None:
    assert callable(make)
    make(tmp_path / "a.png")
    with pytest.raises(BadImageError, match=r"a\.png") as caught:
        decode(tmp_path / "a.png", 16)
    assert why in str(caught.value)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp"])
def test_a_truncated_image_is_named(tmp_path: Path, name: str) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(BadImageError, match="is truncated"):
        decode(tmp_path / name, 16)


def test_a_file_that_vanished_is_not_called_bad(tmp_path: Path) -> None:
    with pytest.raises(LscError, match="has vanished") as caught:
        decode(tmp_path / "a.png", 16)
    assert not isinstance(caught.value, BadImageError)


def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    if os.access(tmp_path / "a.png", os.R_OK):
        pytest.skip("rights do not bind this user")
    with pytest.raises(BadImageError, match="Permission denied"):
        decode(tmp_path / "a.png", 16)
