# SPDX-License-Identifier: GPL-2.0
"""One RISC-V machine with the hypervisor extension under QEMU's TCG.

The console carries kernel messages only and goes to the log. Commands travel
over a virtio port of their own, so that neither disturbs the other."""

import base64
import itertools
import os
import re
import select
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

from .image import Image
from .paths import LOGS, tool

# What QEMU 10 models and KVM or the tests look at.
FULL_CPU = ("rv64,h=true,sv57=true,svadu=true,svinval=true,svnapot=true,svpbmt=true,"
            "sscofpmf=true,ssnpm=true,smnpm=true,smstateen=true,ztso=true,"
            "zaamo=true,zalrsc=true,zabha=true,zacas=true,zcb=true,zcmop=true,zimop=true,zicond=true,"
            "zfh=true,zfbfmin=true,zbkb=true,zbkc=true,zbkx=true,"
            "zknd=true,zkne=true,zknh=true,zkr=true,zksed=true,zksh=true,zkt=true,"
            "v=true,zvbb=true,zvbc=true,zvfh=true,zvfbfmin=true,zvfbfwma=true,zvkg=true,zvkned=true,"
            "zvknha=true,zvknhb=true,zvksed=true,zvksh=true,zvkt=true")
CPUS = {
    "full": FULL_CPU,
    "plain": "rv64,h=true,sv57=false,v=false",
    "sv39": "rv64,h=true,sv57=false,sv48=false",
    "no-h": "rv64,h=false",
    # Page-table entries without A or D make it trap, instead of setting them.
    "svade": FULL_CPU.replace("svadu=true", "svadu=false,svade=true"),
    # Landing pads and shadow stacks, whatever the kernel makes of them.
    "cfi": f"{FULL_CPU},zicfilp=true,zicfiss=true",
    # Four counters, two of which can count at a time.
    "few-counters": f"{FULL_CPU},pmu-mask=0x18",
    # The guest's timer is an hrtimer of the host's.
    "no-sstc": f"{FULL_CPU},sstc=false",
    # The profile that Linux distributions are built for.
    "rva23": "rva23s64",
    # All that QEMU 11 models, Svrsw60t59b and Zalasr among it.
    "max": "max,h=true",
}
# These exist in QEMU 11 only, or are of no use in QEMU 10.
NEED_QEMU_11 = {"max"}

# Console lines of a kernel that is not well.
TROUBLE = re.compile(
    r"WARNING: |BUG: |kernel BUG at |Oops|Kernel panic|rcu: INFO|INFO: task |INFO: trying to register|"
    r"soft lockup|possible recursive locking|possible circular locking|Invalid wait context|"
    r"suspicious RCU usage|sleeping function called|scheduling while atomic|KASAN: |UBSAN: |"
    r"kmemleak: [1-9]|refcount_t: |Unable to handle kernel|rust_kernel: panicked|ODEBUG: |"
    r"list_add corruption|list_del corruption|Bad page state|Bad rss-counter|kunit.*not ok")


class MachineFailure(Exception):
    """The machine died, hung or never came up. Says which log to read."""


def emulator(version: str) -> list[str]:
    """How a QEMU is started: the toolchain root's, or version "11" of tools/qemu with its own
    loader, libraries and firmware."""
    if not version:
        return ["qemu-system-riscv64"]
    usr = Path(tool("qemu", "--path"), "usr")
    loader = next(usr.glob("lib/*/ld-linux-*.so.*"))
    return [str(loader), "--library-path", str(loader.parent), str(usr / "bin/qemu-system-riscv64"),
            "-L", str(usr / "share/qemu")]


@dataclass
class Config:
    """What `tools/vm` offers as options."""

    cpu: str = "full"
    smp: int = 4
    memory: str = "4G"
    # So many CPUs in place of `smp`, and a virtual nanosecond per instruction of any.
    icount: int = 0
    append: str = ""
    # More of QEMU's options.
    extra: tuple[str, ...] = ()
    # Interrupt files for guests that each hart has.
    aia_guests: int = 3
    # "11", or "" for the toolchain root's.
    qemu: str = ""

    def __post_init__(self):
        if self.cpu in NEED_QEMU_11:
            self.qemu = "11"

    def command_line(self, image: Image, mode: str) -> list[str]:
        """The QEMU command line, without console and command channel."""
        smp = int(self.icount) or self.smp
        icount = ["-icount", "shift=0,sleep=off"] if self.icount else []
        return [*emulator(self.qemu), "-M", f"virt,aia=aplic-imsic,aia-guests={self.aia_guests}",
                "-cpu", CPUS.get(self.cpu, self.cpu), "-smp", str(smp), "-m", self.memory, *icount, *self.extra,
                "-nic", "none", "-no-reboot", "-display", "none", "-monitor", "none",
                "-kernel", str(image.kernel), "-initrd", str(image.initrd),
                "-append", f"console=ttyS0 panic=-1 hugepagesz=1G hugepages=1 lab={mode} {self.append}".strip()]


class Machine:
    """A booted machine; use it as a context manager or call `close`."""

    # Limits are for hosts that are busy with other things: all of it takes a fraction of
    # them, and they are reached by what hangs alone.
    BOOT_SECONDS = 600
    COMMAND_SECONDS = 300
    # What the machine gets to tell what hangs, after a command's time is up, and the last
    # that it says of it.
    GRACE_SECONDS = 120
    TOLD = "kvmlab: that was all"

    def __init__(self, image: Image, config: Config, name: str):
        """`name` is the log's."""
        LOGS.mkdir(parents=True, exist_ok=True)
        self.config = config
        self.image = image
        self.log = LOGS / f"{name}.log"
        self._log = open(self.log, "wb")
        self._lock = threading.Lock()
        self._console = []
        self._nonces = itertools.count(1)
        self._patience = image.slowness
        ours, theirs = socket.socketpair()
        argv = [*config.command_line(image, "agent"), "-serial", "stdio",
                "-device", "virtio-serial-device", "-chardev", f"socket,id=kvmlab,fd={theirs.fileno()}",
                "-device", "virtserialport,chardev=kvmlab,name=kvmlab"]
        self._write(b"$ " + " ".join(argv).encode() + b"\n")
        self._qemu = subprocess.Popen(argv, pass_fds=[theirs.fileno()], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        theirs.close()
        self._channel = ours
        self._reader = threading.Thread(target=self._read_console, daemon=True)
        self._reader.start()
        try:
            self.run("true", self.BOOT_SECONDS)
        except MachineFailure:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def run(self, command: str, timeout: float = COMMAND_SECONDS) -> tuple[int, str]:
        """Runs a shell command as root; returns exit code and output.

        Raises MachineFailure if it takes longer (the debug kernel gets more);
        the machine is then gone, and its log ends with what its CPUs were doing."""
        timeout *= self._patience
        nonce = f"kvmlab-{next(self._nonces)}"
        self._write(f"\n$ {command}\n".encode())
        code = base64.b64encode(command.encode()).decode()
        end = re.compile(rb"\n" + nonce.encode() + rb" (\d+)\n")
        answer = b""
        mark = self.mark()
        deadline = time.monotonic() + timeout + self.GRACE_SECONDS
        try:
            self._channel.sendall(f"{nonce} {timeout:.0f} {code}\n".encode())
            while not (found := end.search(answer)):
                late = time.monotonic() > deadline or self.TOLD in self.console(mark)
                ready, _, _ = select.select([self._channel], [], [], 0 if late else 1)
                if not ready and late:
                    self.close()
                    raise MachineFailure(f"`{command}` not done after {timeout:.0f} s; see {self.log}")
                if not ready:
                    continue
                chunk = self._channel.recv(1 << 16)
                if not chunk:
                    raise ConnectionError
                self._write(chunk)
                answer += chunk
        except ConnectionError as e:
            self.close()
            raise MachineFailure(f"the machine died during `{command}`; see {self.log}\n{self.tail()}") from e
        return int(found[1]), answer[: found.start()].decode(errors="replace").replace("\r\n", "\n")

    def check(self, command: str, timeout: float = COMMAND_SECONDS) -> str:
        """As `run`, for commands that must succeed."""
        code, output = self.run(command, timeout)
        if code:
            raise AssertionError(f"`{command}` gave {code}: {output}")
        return output

    def insmod(self, module: str) -> None:
        """Replaces whatever KVM is loaded by "ours" or "c"; "none" unloads."""
        self.run("rmmod kvm")
        if module != "none":
            self.check(f"insmod /modules/{module}/kvm.ko")

    def send(self, command: str, timeout: float) -> None:
        """Sends a command whose answer will not come: the last one of this machine."""
        self._write(f"\n$ {command}\n".encode())
        code = base64.b64encode(command.encode()).decode()
        self._channel.sendall(f"nobody {timeout:.0f} {code}\n".encode())

    def press(self) -> None:
        """A key on the console."""
        os.write(self._qemu.stdin.fileno(), b"\n")

    def mark(self) -> int:
        """A position in the console, for `trouble`."""
        with self._lock:
            return len(self._console)

    def console(self, since: int = 0) -> str:
        """What the kernel said since a mark."""
        with self._lock:
            return b"".join(self._console[since:]).decode(errors="replace")

    def trouble(self, since: int = 0) -> list[str]:
        """Console lines since a mark that tell of a kernel defect."""
        return [line.strip() for line in self.console(since).splitlines()
                if TROUBLE.search(line)]

    def tail(self, lines: int = 12) -> str:
        """The end of the console."""
        return "\n".join(self.console().splitlines()[-lines:])

    def alive(self) -> bool:
        return self._qemu.poll() is None

    def power_off(self, timeout: float = COMMAND_SECONDS, command: str = "poweroff -f") -> None:
        """An orderly end: unloads KVM, if it is not in use, and powers off."""
        self.run("rmmod kvm")
        self.send(command, timeout / 2)
        try:
            self._qemu.wait(timeout)
        except subprocess.TimeoutExpired as e:
            raise MachineFailure(f"no power-off within {timeout:.0f} s; see {self.log}") from e
        finally:
            self.close()

    def close(self) -> None:
        """Ends QEMU whatever it does; may be called twice."""
        self._channel.close()
        if self.alive():
            self._qemu.kill()
        self._qemu.wait()
        self._qemu.stdin.close()
        self._reader.join()

    def _read_console(self) -> None:
        while line := self._qemu.stdout.readline():
            with self._lock:
                self._console.append(line)
            self._write(line)

    def _write(self, data: bytes) -> None:
        with self._lock:
            self._log.write(data)
            self._log.flush()


def shell(image: Image, config: Config, module: str) -> int:
    """An interactive machine on this terminal; Ctrl-A X ends it."""
    config = replace(config, append=f"module={module} {config.append}")
    return subprocess.run([*config.command_line(image, "shell"), "-serial", "mon:stdio"]).returncode
