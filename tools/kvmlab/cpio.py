# SPDX-License-Identifier: GPL-2.0
"""Writes "newc" cpio archives, the initramfs format. Archives concatenate."""

import stat
from pathlib import Path


class Cpio:
    """An archive being written to a file; parent directories appear by themselves."""

    def __init__(self, path: Path, append: bool = False):
        self._out = open(path, "ab" if append else "wb")
        self._inode = 0
        self._made = set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._entry("TRAILER!!!", 0, b"")
        self._out.close()

    def directory(self, name: str) -> None:
        if name and name not in self._made:
            self._parents(name)
            self._made.add(name)
            self._entry(name, stat.S_IFDIR | 0o755, b"")

    def file(self, name: str, data: bytes, mode: int = 0o755) -> None:
        self._parents(name)
        self._entry(name, stat.S_IFREG | mode, data)

    def symlink(self, name: str, target: str) -> None:
        self._parents(name)
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def device(self, name: str, major: int, minor: int) -> None:
        self._parents(name)
        self._entry(name, stat.S_IFCHR | 0o600, b"", (major, minor))

    def _parents(self, name: str) -> None:
        self.directory(name.rpartition("/")[0])

    def _entry(self, name: str, mode: int, data: bytes, rdev=(0, 0)) -> None:
        self._inode += 1
        # magic, then ino mode uid gid nlink mtime filesize devmajor devminor
        # rdevmajor rdevminor namesize check; name and data padded to 4 bytes.
        fields = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, *rdev, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08x" % f for f in fields) + name.encode() + b"\0"
        self._out.write(head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4))
