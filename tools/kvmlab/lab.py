# SPDX-License-Identifier: GPL-2.0
"""The machine that the tests share: one at a time, kept while it is of use."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from .image import Image
from .machine import Config, Machine
from .selftests import build_selftests

# Has a kernel that knows KUnit run a module's tests when it is loaded.
KUNIT = "kunit.enable=1 kunit.autorun=1"


class Lab:
    """Hands out machines. Only one QEMU runs, also if there are two labs: asking for
    another kind ends it."""

    _running: ClassVar["Lab | None"] = None

    def __init__(self, module_error: str = "", flavour: str = "", ours: Path | None = None,
                 programs: Callable[[], dict[str, Path]] = build_selftests, **defaults):
        """`module_error` says why there is no kvm.ko of ours, if so; `flavour` is the
        kernel's; `ours` is a module to test in its place; `programs` builds those of
        the machine; `defaults` are of its `Config`."""
        self._module_error = module_error
        self._flavour = flavour
        self._ours = ours
        self._programs = programs
        self._defaults = {"append": KUNIT} | defaults if flavour == "debug" else defaults
        self._machine = None
        self._module = None
        self._count = 0

    @cached_property
    def image(self) -> Image:
        return Image(self._programs(), self._flavour, self._ours)

    def with_programs(self, programs: Callable[[], dict[str, Path]]) -> "Lab":
        """A lab for the same kernel and module, whose machines have other programs."""
        return Lab(self._module_error, self._flavour, self._ours, programs, **self._defaults)

    @cached_property
    def newest_image(self) -> Image:
        return Image(flavour=self._flavour, ours=self._ours, newest=True)

    def machine(self, module: str = "ours", newest: bool = False, **config) -> Machine:
        """A machine of this configuration with this KVM loaded. `newest` gives it the newest QEMU as a VMM,
        and no selftests."""
        if module == "ours":
            assert not self._module_error, self._module_error
            assert self.image.ours.exists(), f"there is no {self.image.ours}"
        wanted = Config(**self._defaults | config)
        if Lab._running not in (None, self):
            Lab._running.discard()
        Lab._running = self
        image = self.newest_image if newest else self.image
        if self._machine and ((self._machine.config, self._machine.image) != (wanted, image)
                              or not self._machine.alive()):
            self.discard()
        if not self._machine:
            self._count += 1
            self._machine = Machine(image, wanted, self._log_name(wanted))
            self._module = "none"
        if self._module != module:
            self._machine.insmod(module)
            self._module = module
        return self._machine

    def _log_name(self, config: Config) -> str:
        kind = "-".join([*filter(None, [self._flavour]), "machine"])
        return f"{kind}-{self._count}-{config.cpu}-smp{config.smp}" + (f"-qemu{config.qemu}" if config.qemu else "")

    @property
    def current(self) -> Machine | None:
        """The machine that runs now, for looking at its console."""
        return self._machine

    def discard(self) -> None:
        """Ends the current machine; the next test boots a fresh one."""
        if self._machine:
            self._machine.close()
        self._machine = None
