# SPDX-License-Identifier: GPL-2.0
"""The benchmark program of selftests/bench, and what its figures say."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .image import Image
from .machine import Config, Machine, MachineFailure
from .paths import TOP, tool

CPU = "plain"
MODULES = {"c": "C", "ours": "ours"}
SECONDS = 3600

# Two machines may differ by this part, or by this many instructions: a tick of
# the timer in one of them is 2,500, which is 0.7 for each of 3,584 pages. So may
# ours and C before one is called slower.
TOLERANCE = 3e-3
TOLERANCE_ABSOLUTE = 1.0
# What allocates and frees a lot depends on what was freed before.
UNSTEADY = {
    "logging ends, per 2M huge again (C: slot anew)": 1e-1,
    "VM and vCPU, create and destroy": 3e-2,
    "VM and 4 vCPUs, create and destroy": 3e-2,
}

# What a prototype reached, as a part of what C takes: the design's own figures,
# made by other means than these rows, so that only the ratios compare.
REACHED = {
    "SBI base ecall": 434 / 1005,
    "SBI set_timer": 444 / 1070,
    "SBI send_ipi, no target": 444 / 1344,
    "SBI remote_sfence_vma, self": 481 / 2470,
    "MMIO store to userspace": 1980 / 3020,
    "SBI call to userspace": 1766 / 2894,
    "ONE_REG get pc": 692 / 865,
    "VM and vCPU, create and destroy": 287 / 352,
    "G-stage fault, 4K, host page present": 2156 / 3216,
    "dirty log: enable, per page": 13 / 216,
    "dirty log: write fault": 893 / 2726,
    "dirty log: get, per page": 17 / 245,
    "memslot delete, per page": 15 / 375,
    "notifier unmap, per page, KVM's part": (677 - 670) / (923 - 670),
}

# Rows of which a part is the host's own work: that is measured, too, where no
# guest is, and taken off.
NO_GUEST = ", no guest there"
KVM_PART = ", KVM's part"


@dataclass
class Row:
    """What an operation costs, in instructions."""

    what: str
    c: float
    ours: float

    @property
    def ratio(self) -> float:
        return self.ours / self.c

    @property
    def slower(self) -> bool:
        if self.what.endswith(NO_GUEST):
            return False
        # The difference of two figures has the noise of both, which are larger.
        return slower(self.ours, self.c, 5 if self.what.endswith(KVM_PART) else TOLERANCE_ABSOLUTE)

    @property
    def missed(self) -> bool:
        """Slower than the prototype, by what the table shows."""
        return self.what in REACHED and f"{self.ratio:.2f}" > f"{REACHED[self.what]:.2f}"

    def cells(self) -> list[str]:
        reached = REACHED.get(self.what)
        return [self.what, count(self.c), count(self.ours), part(self.ratio), part(reached) if reached else "-"]


def slower(ours: float, c: float, absolute: float = TOLERANCE_ABSOLUTE) -> bool:
    """By more than what machines differ by."""
    return ours > c + max(TOLERANCE * c, absolute)


HEAD = ["operation", "C", "ours", "ratio", "reached"]


def count(val: float) -> str:
    """To three digits or four, fewer than repeat."""
    if val >= 1e5:
        return f"{val / 1000:.0f}k"
    return f"{val:.0f}" if val >= 100 else f"{val:.1f}"


def part(val: float) -> str:
    return f"{val:.2f}" if val >= 0.1 else f"{val:.3f}"


def rows(c: dict[str, float], ours: dict[str, float]) -> list[Row]:
    """All that was measured, and what of it is KVM's."""
    result = []
    for what in c:
        result.append(Row(what, c[what], ours[what]))
        if what.endswith(NO_GUEST):
            inside = what.removesuffix(NO_GUEST)
            # A page's own noise is more than nothing.
            result.append(Row(inside + KVM_PART, c[inside] - c[what], max(ours[inside] - ours[what], 0)))
    return result


def build_program() -> Path:
    """selftests/bench, against the library of the upstream selftests."""
    out = Path(tool("selftests"))
    headers = Path(tool("kernel", "--headers"))
    program = out / "ours/kvm_bench"
    done = subprocess.run(["make", "-s", "-C", str(TOP / "selftests/bench"), f"KSRC={tool('kernel', '--source')}",
                           f"HEADERS={headers}", f"LIBRARY={headers.parents[1] / 'selftests'}",
                           f"OUTPUT={out}", str(program)])
    if done.returncode:
        sys.exit("selftests/bench does not compile")
    return program


def parse(output: str) -> dict[str, float]:
    """Name -> figure, of what the program prints."""
    return {what: float(val) for val, what in re.findall(r"^([\d.-]+)\t(.*)$", output, re.MULTILINE)}


def measure(image: Image, module: str, cpu: str, options: str) -> dict[str, float]:
    """Operation -> instructions, in a new machine."""
    with Machine(image, Config(cpu=cpu, icount=1), f"bench-{module}") as machine:
        machine.insmod(module)
        output = machine.check(f"/selftests/kvm_bench {options}", SECONDS)
        end(machine)
    return parse(output)


def end(machine: Machine) -> None:
    """A machine whose kernel complained has measured something else."""
    machine.power_off()
    if machine.trouble():
        raise MachineFailure(f"the kernel complained: {machine.trouble()[0]}; see {machine.log}")


def differing(module: str, runs: list[dict[str, float]]) -> list[str]:
    """A line for each operation whose figures depend on the machine."""
    lines = []
    for what in runs[0]:
        vals = [run[what] for run in runs]
        if max(vals) - min(vals) > max(UNSTEADY.get(what, TOLERANCE) * min(vals), TOLERANCE_ABSOLUTE):
            lines.append(f"{what}, {MODULES[module]}: " + " ".join(f"{v:.2f}" for v in vals))
    return lines
