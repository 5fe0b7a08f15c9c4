# SPDX-License-Identifier: GPL-2.0
"""Demand paging by several vCPUs at a time: instructions and waits for locks.

The machine's CPUs take turns of up to a million instructions in one thread of QEMU.
Who finds a lock taken by a CPU whose turn is over spins until its own is, so
that elapsed time says how QEMU takes turns. Instructions are therefore counted
one by one, and those of the slow paths of spinning locks left out; how often
they are entered is counted in another machine, by the kernel's own trace events,
which then are in no other figure."""

import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from .bench import SECONDS, count, end, parse, part, slower
from .counter import Symbols, build_plugin, qemu_options, read_counts
from .image import Image
from .machine import Config, Machine

VCPUS = [1, 2, 4]
# Options of the program. Fault-around is ours alone.
PAGES = {"present": "-f 65536", "present, no fault-around": "-f 0", "absent": "-a"}

SPINNING = {"queued_read_lock_slowpath", "queued_write_lock_slowpath", "queued_spin_lock_slowpath"}

TRACE_ON = """cd /sys/kernel/tracing
echo 0 >tracing_on
echo 16384 >buffer_size_kb
echo 1 >events/lock/contention_begin/enable
echo 1 >events/lock/contention_end/enable"""
TRACE_READ = "cd /sys/kernel/tracing && cat trace && echo >trace"


@dataclass
class Figures:
    """For each page: instructions without those spinning, and with them only;
    for each 1000 pages: waits for mmu_lock, and for other locks."""

    work: float
    spin: float
    waits: float
    others: float


@dataclass
class Point:
    vcpus: int
    pages: str
    c: Figures
    ours: Figures

    @property
    def ratio(self) -> float:
        return self.ours.work / self.c.work

    @property
    def slower(self) -> bool:
        return slower(self.ours.work, self.c.work)

    def cells(self) -> list[str]:
        return [str(self.vcpus), self.pages, count(self.c.work), count(self.ours.work), part(self.ratio),
                *(f"{waits:.1f}" for waits in (self.c.waits, self.ours.waits, self.c.others, self.ours.others))]


HEAD = ["vCPUs", "host pages", "C", "ours", "ratio", "C waits", "our waits", "C others", "our others"]


def instructions(image: Image, module: str, cpu: str, program: Path) -> list[tuple[float, float]]:
    """For each case in turn: work and spinning."""
    with TemporaryDirectory() as tmp:
        out = Path(tmp, "counts")
        options = qemu_options(build_plugin(Path(tmp)), out)
        with Machine(image, Config(cpu=cpu, icount=max(VCPUS), extra=options), f"scaling-{module}") as machine:
            machine.insmod(module)
            kallsyms = machine.check("cat /proc/kallsyms")
            pages = [parse(machine.check(f"/selftests/kvm_bench -p -s {vcpus} {option}", SECONDS))["pages"]
                     for option in PAGES.values() for vcpus in VCPUS]
            end(machine)
        counts = read_counts(out)
    symbols = Symbols(kallsyms, program.with_suffix(".full"))
    result = []
    for case, n in zip(counts, pages, strict=True):
        sums = symbols.sums(case)
        spin = sum(sums[name] for name in SPINNING)
        result.append(((sums.total() - spin) / n, spin / n))
    return result


def count_waits(trace: str) -> tuple[int, int]:
    """For mmu_lock, the only rwlock of interest, and for others; what is waited
    for within a wait is a part of it."""
    lost = re.search(r"entries-in-buffer/entries-written: (\d+)/(\d+)", trace)
    assert lost and lost[1] == lost[2], "the trace buffer is too small"
    waiting, mmu_lock, others = {}, 0, 0
    for pid, kind, flags in re.findall(r"-(\d+) .* contention_(begin|end): \w+ \((?:flags=(\S*)|ret=\S+)\)", trace):
        depth = waiting.get(pid, 0)
        if kind == "begin" and not depth:
            # An rwsem's have no SPIN.
            if re.search(r"SPIN\|(READ|WRITE)", flags):
                mmu_lock += 1
            else:
                others += 1
        waiting[pid] = max(depth + (1 if kind == "begin" else -1), 0)
    return mmu_lock, others


def waits(image: Image, module: str, cpu: str) -> list[tuple[float, float]]:
    """For each case in turn, for 1000 pages."""
    result = []
    with Machine(image, Config(cpu=cpu, icount=max(VCPUS)), f"waits-{module}") as machine:
        machine.insmod(module)
        machine.check(TRACE_ON)
        for option in PAGES.values():
            for vcpus in VCPUS:
                pages = parse(machine.check(f"/selftests/kvm_bench -w -s {vcpus} {option}", SECONDS))["pages"]
                result.append(tuple(1000 * n / pages for n in count_waits(machine.check(TRACE_READ))))
        end(machine)
    return result


def measure(image: Image, module: str, cpu: str, program: Path) -> list[Figures]:
    """For each case in turn."""
    return [Figures(*a, *b) for a, b in zip(instructions(image, module, cpu, program),
                                            waits(image, module, cpu), strict=True)]


def points(c: list[Figures], ours: list[Figures]) -> list[Point]:
    cases = [(vcpus, pages) for pages in PAGES for vcpus in VCPUS]
    return [Point(*case, *figures) for case, *figures in zip(cases, c, ours, strict=True)]
