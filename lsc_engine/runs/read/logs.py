"""Following log.txt: what is new, as text; a progress bar's carriage returns become line ends."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator
from pathlib import Path

from lsc_engine.runs.files import UnreadableError, open_regular

_BLOCK = 1 << 16


class LogTail:
    """Reads a log from where the last reading ended; begins again when the file shrank or was replaced."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem: str | None = None
        self._start_again()

    def _start_again(self) -> None:
        self._offset = 0
        self._inode: tuple[int, int] | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._after_return = False

    def skip_to_last(self, lines: int) -> None:
        """Begin at the last `lines` lines."""
        try:
            descriptor = open_regular(self.path)
        except UnreadableError as error:
            self.problem = str(error)
            return
        try:
            info = os.fstat(descriptor)
            end = position = info.st_size
            found = -1 if end and os.pread(descriptor, 1, end - 1) == b"\n" else 0
            while position > 0:
                start = max(position - _BLOCK, 0)
                block = os.pread(descriptor, position - start, start)
                newlines = block.count(b"\n")
                if found + newlines >= lines:
                    for _ in range(found + newlines - lines + 1):
                        cut = block.find(b"\n")
                        start += cut + 1
                        block = block[cut + 1 :]
                    self._offset, self._inode = start, (info.st_dev, info.st_ino)
                    return
                found += newlines
                position = start
        except OSError as error:
            self.problem = f"{self.path.name} cannot be read: {error.strerror}"
        finally:
            os.close(descriptor)

    def chunks(self) -> Iterator[str]:
        """The new text in pieces; `problem` is a sentence when the file cannot be read."""
        try:
            descriptor = open_regular(self.path)
        except UnreadableError as error:
            self.problem = str(error)
            return
        self.problem = None
        try:
            info = os.fstat(descriptor)
            inode = (info.st_dev, info.st_ino)
            if self._inode not in (None, inode) or info.st_size < self._offset:
                self._start_again()
            self._inode = inode
            while block := os.pread(descriptor, _BLOCK, self._offset):
                self._offset += len(block)
                if text := self._lines(self._decoder.decode(block)):
                    yield text
        except OSError as error:
            self.problem = f"{self.path.name} cannot be read: {error.strerror}"
        finally:
            os.close(descriptor)

    def _lines(self, text: str) -> str:
        if self._after_return and text.startswith("\n"):
            text = text[1:]
        self._after_return = text.endswith("\r")
        return text.replace("\r\n", "\n").replace("\r", "\n")
