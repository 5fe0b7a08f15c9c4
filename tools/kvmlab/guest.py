# SPDX-License-Identifier: GPL-2.0
"""The nested Linux guest: Debian's riscv64 QEMU with -accel kvm in a machine."""

import re
import shlex
from dataclasses import dataclass

from .machine import TROUBLE, Machine


@dataclass
class Guest:
    """What a nested guest showed before it powered off."""

    exit_code: int
    output: str

    def _line(self, pattern: str) -> str | None:
        found = re.search(rf"guest: {pattern}\r?$", self.output, re.MULTILINE)
        return found and found[1]

    @property
    def uname(self) -> str | None:
        return self._line(r"uname (.*)")

    @property
    def cpus(self) -> int:
        return int(self._line(r"cpus (\d+)") or 0)

    @property
    def isa(self) -> str | None:
        return self._line(r"isa : (.*?)")

    @property
    def command_exit(self) -> int | None:
        code = self._line(r"exit (\d+)")
        return None if code is None else int(code)

    def done(self) -> bool:
        """Userspace reached, the last line printed, an orderly power-off."""
        return self.exit_code == 0 and self._line("(userspace done)") is not None

    def trouble(self) -> list[str]:
        """Lines of the guest's kernel that tell of a defect."""
        return [line for line in self.output.splitlines() if TROUBLE.search(line)]


def boot_guest(machine: Machine, options: str = "", command: str = "", timeout: float = 120) -> Guest:
    """Boots a guest to the end; `options` are QEMU's, `command` runs in it."""
    inner = f"-c {shlex.quote(command)} " if command else ""
    return Guest(*machine.run(f"guest {inner}{options}", timeout))
