# SPDX-License-Identifier: GPL-2.0
"""Counts how often each instruction is executed between the marks of
selftests/bench, with a plugin of QEMU, and tells whose they are."""

import bisect
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .paths import TOOLS


def build_plugin(where: Path) -> Path:
    """For the QEMU of this root."""
    plugin = where / "insn_count.so"
    done = subprocess.run(["gcc", "-Wall", "-O2", "-shared", "-fPIC", str(TOOLS / "kvmlab/insn_count.c"),
                           "-o", str(plugin)])
    if done.returncode:
        sys.exit("tools/kvmlab/insn_count.c does not compile")
    return plugin


def qemu_options(plugin: Path, out: Path) -> tuple[str, ...]:
    """More of QEMU's, for `Config.extra`."""
    return ("-plugin", f"{plugin},out={out}")


def read_counts(out: Path) -> list[dict[int, int]]:
    """Address -> count, for each pair of marks in turn."""
    parts = out.read_text().split("\n\n")[:-1]
    return [{int(address, 16): int(count) for address, count in map(str.split, part.splitlines())}
            for part in parts]


@dataclass
class Symbol:
    """Where something begins, and in which module if in one."""

    address: int
    name: str
    module: str

    def __str__(self) -> str:
        return f"{self.name} [{self.module}]" if self.module else self.name


def readable(symbol: str) -> str:
    """A demangled name without what is the same in all."""
    return re.sub(r"^<?kvm::|\[\w{16}\]", "", symbol)


class Symbols:
    """The functions of the kernel, of its modules and of one program."""

    def __init__(self, kallsyms: str, program: Path):
        """`kallsyms` is the machine's /proc/kallsyms."""
        nm = subprocess.run(["llvm-nm", str(program)], check=True, stdout=subprocess.PIPE, text=True).stdout
        found = [Symbol(int(m[1], 16), m[2], m[3] or "")
                 for m in re.finditer(r"^(\w+) [tTwW] (\S+)(?:\t\[(\w+)\])?$", kallsyms + nm, re.MULTILINE)
                 if not m[2].startswith((".L", "$"))]
        names = subprocess.run(["llvm-cxxfilt"], input="\n".join(s.name for s in found), check=True,
                               stdout=subprocess.PIPE, text=True).stdout.splitlines()
        for symbol, name in zip(found, names, strict=True):
            symbol.name = readable(name)
        self.all = sorted(found, key=lambda s: s.address)
        self._starts = [s.address for s in self.all]

    def sums(self, counts: dict[int, int]) -> Counter:
        """Function -> instructions in it."""
        sums = Counter()
        for address, count in counts.items():
            sums[str(self.all[bisect.bisect_right(self._starts, address) - 1])] += count
        return sums
