"""Shape of a vector file (`file:PATH`) from its header, without loading it: .npy, .safetensors or CSV."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from lsc_engine.common.textfiles import other_encoding


def table_shape(path: str | Path) -> tuple[int, int]:
    """(rows, columns) of the file. ValueError with a sentence where there is no such table."""
    path = Path(path)
    readers = {".npy": _npy, ".safetensors": _safetensors, ".csv": _csv}
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path.name} is none of {', '.join(readers)}")
    try:
        return readers[path.suffix.lower()](path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error


def _npy(path: Path) -> tuple[int, int]:
    import numpy as np

    try:
        shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is no .npy file: {error}") from error
    return _two(path, list(shape))


def _safetensors(path: Path) -> tuple[int, int]:
    try:
        with safe_open(path, framework="numpy") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is no .safetensors file") from error
    if len(shapes) != 1:
        raise ValueError(f"{path} holds {len(shapes)} tensors, one is needed")
    return _two(path, shapes[0])


def _csv(path: Path) -> tuple[int, int]:
    rows = columns = 0
    with path.open("rb") as start:
        if (other := other_encoding(start.read(1024))) is not None:
            raise ValueError(f"{path} is {other} text; save it as UTF-8")
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for line in file:
            if line.strip():
                rows, columns = rows + 1, columns or line.count(",") + 1
    return _two(path, [rows, columns])


def _two(path: Path, shape: list[int]) -> tuple[int, int]:
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"{path} has shape {tuple(shape)}; rows and columns are needed, one row per class")
    return int(shape[0]), int(shape[1])
