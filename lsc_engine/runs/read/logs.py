"""Following log.txt: what is new, as text; a progress bar's carriage returns become line ends."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator
from pathlib import Path

from lsc_engine.common.safe_io import UnreadableError, opened

_BLOCK = 1 << 16
_NEWLINE = ord("\n")


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
        try:
            with opened(self.path) as descriptor:
                info = os.fstat(descriptor)
                position = info.st_size
                missing = lines + (position > 0 and os.pread(descriptor, 1, position - 1) == b"\n")
                while position > 0:
                    start = max(position - _BLOCK, 0)
                    block = os.pread(descriptor, position - start, start)
                    ends = [at for at, byte in enumerate(block) if byte == _NEWLINE]
                    if len(ends) >= missing:
                        self._offset, self._inode = start + ends[-missing] + 1, (info.st_dev, info.st_ino)
                        return
                    missing -= len(ends)
                    position = start
        except UnreadableError as error:
            self.problem = str(error)

    def chunks(self) -> Iterator[str]:
        """The new text in pieces; `problem` is a sentence if the file cannot be read."""
        self.problem = None
        try:
            with opened(self.path) as descriptor:
                info = os.fstat(descriptor)
                inode = (info.st_dev, info.st_ino)
                if self._inode not in (None, inode) or info.st_size < self._offset:
                    self._start_again()
                self._inode = inode
                while block := os.pread(descriptor, _BLOCK, self._offset):
                    self._offset += len(block)
                    text = self._decoder.decode(block)
                    # The other half of a line end that was split between two blocks.
                    text = text[1:] if self._after_return and text.startswith("\n") else text
                    self._after_return = text.endswith("\r")
                    if text:
                        yield text.replace("\r\n", "\n").replace("\r", "\n")
        except UnreadableError as error:
            self.problem = str(error)
