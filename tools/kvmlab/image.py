# SPDX-License-Identifier: GPL-2.0
"""What a machine boots: the kernel Image and an initramfs of two archives, the
cached userland and a fresh overlay with everything that this tree builds."""

import shutil
import tempfile
from pathlib import Path

from .cpio import Cpio
from .paths import TOP, tool

HERE = Path(__file__).parent


def guest_initrd(busybox: bytes) -> bytes:
    """The nested guest's initramfs: busybox and an init."""
    with tempfile.NamedTemporaryFile() as f:
        with Cpio(Path(f.name)) as out:
            for d in ["dev", "proc", "sys"]:
                out.directory(d)
            out.device("dev/console", 5, 1)
            out.file("bin/busybox", busybox)
            out.symlink("bin/sh", "busybox")
            out.file("init", (HERE / "guest-init.sh").read_bytes())
        return f.read()


# The kernels of tools/kernel, and how much longer than usual everything may take
# on each: KASAN and lockdep under TCG.
FLAVOURS = {"": 1, "debug": 8, "rt": 4}


class Image:
    """The files of one bootable machine."""

    def __init__(self, programs: dict[str, Path] | None = None, flavour: str = "",
                 ours: Path | None = None, newest: bool = False):
        """`programs` go to /selftests, by name; `flavour` is the kernel's; `ours` is
        the module to test if not the one that the Makefile builds for this kernel.
        `newest` gives the machine the userland of tools/userland --newest."""
        option = [f"--{flavour}"] if flavour else []
        self.flavour = flavour
        self.slowness = FLAVOURS[flavour]
        self.build = Path(tool("kernel", *option, "--path"))
        self.kernel = Path(tool("kernel", *option, "--image"))
        self.base = Path(tool("userland", *["--newest"] * newest))
        self.ours = ours or TOP / "build" / "-".join(["kbuild", *filter(None, [flavour])]) / "kvm.ko"
        self.programs = programs or {}
        # The nested guest boots the small kernel, whatever the machine boots.
        self.guest_kernel = Path(tool("kernel", "--image"))
        # Made once: all machines of an image have the same files, also while
        # somebody builds.
        self._dir = tempfile.TemporaryDirectory(prefix="kvmlab-")
        self.initrd = Path(self._dir.name) / "initrd"
        self._write_initrd(self.initrd)

    @property
    def linux(self) -> str:
        """The kernel's version, without its level: 7.3."""
        return ".".join((self.build / "include/config/kernel.release").read_text().split(".")[:2])

    def _write_initrd(self, path: Path) -> None:
        """Base and overlay in one file: QEMU takes one initrd, Linux unpacks both."""
        shutil.copyfile(self.base, path)
        with Cpio(path, append=True) as out:
            out.file("init", (HERE / "init.sh").read_bytes())
            out.file("agent", (HERE / "agent.sh").read_bytes())
            out.file("usr/bin/guest", (HERE / "guest.sh").read_bytes())
            out.file("guest/Image", self.guest_kernel.read_bytes(), 0o644)
            out.file("guest/initrd.cpio", guest_initrd((self.base.parent / "busybox").read_bytes()), 0o644)
            out.file("modules/c/kvm.ko", (self.build / "arch/riscv/kvm/kvm.ko").read_bytes(), 0o644)
            if self.ours.exists():
                out.file("modules/ours/kvm.ko", self.ours.read_bytes(), 0o644)
            for name, program in self.programs.items():
                out.file(f"selftests/{name}", program.read_bytes())
