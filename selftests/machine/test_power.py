# SPDX-License-Identifier: GPL-2.0
"""CPUs that go and come, a machine that sleeps, and its end, while guests run."""

import base64
import re
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from kvmlab.guest import Guest
from kvmlab.machine import Machine

# A guest that says twice a second that it lives, on each of its CPUs, if it could do its work.
HEARTBEAT = ("for cpu in 0 1; do taskset -c $cpu sh -c 'for n in $(seq {beats}); do {work} echo beat $0 $n; sleep .5; done' "
             "$cpu & done; wait")
# A page of a disk that the guest has not read before: it waits for the disk's interrupt.
READ_DISK = "dd if=/dev/vda of=/dev/null bs=4k count=1 skip=$((n * 512 + $0 * 256)) 2>/dev/null &&"
DISK = "/tmp/power-disk"
BEATS = 24
GUEST = "/tmp/power-guest"


class Beating:
    """A guest in the background of a machine."""

    def __init__(self, machine: Machine, options: str = "", work: str = ""):
        self.machine = machine
        command = HEARTBEAT.format(beats=BEATS, work=work).replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
        machine.check(f'rm -f {GUEST}; (guest -c "{command}" -smp 2 {options} >{GUEST} 2>&1; printf "\\ncode %d\\n" $? >>{GUEST}) '
                      f'</dev/null >/dev/null 2>&1 & until grep -q "^code" {GUEST}; do '
                      f'grep -q "beat 1 2" {GUEST} && exit 0; sleep .5; done; cat {GUEST}; exit 1', 600)

    @staticmethod
    def of(output: str) -> Guest:
        """What it was, by its output."""
        return Guest(int(re.findall(r"^code (\d+)", output, re.MULTILINE)[-1]), output)

    def end(self) -> Guest:
        """Waits for its own end."""
        return self.of(self.machine.check(f"until grep -q '^code' {GUEST}; do sleep .5; done; cat {GUEST}", 600))

    def assert_well(self, guest: Guest | None = None) -> None:
        """Ends, and has missed nothing."""
        guest = guest or self.end()
        assert guest.done(), guest.output
        assert guest.trouble() == []
        for cpu in (0, 1):
            heard = [int(n) for n in re.findall(rf"guest: beat {cpu} (\d+)", guest.output)]
            assert heard == list(range(1, BEATS + 1))


# A CPU that went can be had again once the firmware is done with it, too: until then a try is refused.
ONLINE = "cd /sys/devices/system/cpu; " \
         "online() { for try in $(seq 100); do echo 1 >cpu$1/online && return; sleep .3; done; exit 1; }; "
ROUND = "for cpu in 1 2 3; do echo 0 >cpu$cpu/online || exit 1; sleep .2; online $cpu; sleep .2; done"


@pytest.mark.parametrize("options", ["", "-M virt,aia=aplic-imsic"], ids=["plain", "aia"])
def test_cpus_go_and_come_under_a_guest(lab, options):
    machine = lab.machine()
    guest = Beating(machine, options)
    machine.check(f"{ONLINE} for round in 1 2 3; do {ROUND}; done", 600)
    guest.assert_well()


def test_guest_is_driven_off_one_cpu_after_another(lab):
    """Down to one CPU and up again: every vCPU has been everywhere."""
    machine = lab.machine()
    guest = Beating(machine)
    machine.check(f"{ONLINE} for cpu in 1 2 3; do echo 0 >cpu$cpu/online || exit 1; sleep .3; done; "
                  "for cpu in 1 2 3; do online $cpu; done; echo 0 >cpu0/online || exit 1; sleep 1; "
                  "online 0", 600)
    guest.assert_well()


def test_module_loads_and_unloads_while_cpus_are_off(lab):
    """Only CPUs that are there are switched on, and those that come later are, too."""
    machine = lab.machine()
    machine.check(f"{ONLINE} echo 0 >cpu3/online || exit 1; rmmod kvm; insmod /modules/ours/kvm.ko; "
                  "exec 4</dev/kvm; online 3")
    machine.check(f"taskset -c 3 guest -smp 2 >{GUEST} 2>&1; grep 'userspace done' {GUEST}", 600)


@contextmanager
def keys_pressed(machine: Machine):
    """A key is pressed every few seconds."""
    gone = threading.Event()

    def press():
        while not gone.wait(3):
            machine.press()

    presser = threading.Thread(target=press)
    presser.start()
    try:
        yield
    finally:
        gone.set()
        presser.join()


def wait_for(machine: Machine, pattern: str, since: int, seconds: float) -> str:
    """The console since a mark, once the pattern is there."""
    deadline = time.monotonic() + seconds
    while not re.search(pattern, console := machine.console(since), re.MULTILINE):
        assert time.monotonic() < deadline, f"no {pattern} on the console, see {machine.log}"
        time.sleep(1)
    return console


SLEEPS = 3


@pytest.mark.parametrize("options", ["", "-M virt,aia=aplic-imsic"], ids=["plain", "aia"])
def test_guest_sleeps_with_the_machine(lab, options):
    """Suspend to idle, and a key on the console to wake it. The port for commands
    does not survive that, so the guest's output comes over the console."""
    machine = lab.machine()
    mark = machine.mark()
    guest = Beating(machine, options)
    machine.send("exec >/dev/ttyS0 2>&1; echo enabled >/sys/class/tty/ttyS0/power/wakeup; "
                 f"for n in $(seq {SLEEPS}); do sleep 1; echo freeze >/sys/power/state; done; "
                 f"until grep -q '^code' {GUEST}; do sleep 1; done; cat {GUEST}; echo end of sleep", 700)
    with keys_pressed(machine):
        console = wait_for(machine, "^end of sleep", mark, 600).replace("\r\n", "\n")
    trouble = machine.trouble(mark)
    lab.discard()
    assert console.count("PM: suspend entry (s2idle)") == console.count("PM: suspend exit") == SLEEPS
    guest.assert_well(guest.of(console))
    assert trouble == []


DEEP_SLEEP = Path(__file__).parent / "deep_sleep"


@pytest.fixture
def deep_sleep(lab, tmp_path) -> bytes:
    """A module that makes a machine one that can be suspended to RAM."""
    shutil.copytree(DEEP_SLEEP, tmp_path, dirs_exist_ok=True)
    made = subprocess.run(["make", "-C", lab.image.build, f"M={tmp_path}", "ARCH=riscv", "LLVM=1", "modules"],
                          capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    module = tmp_path / "deep_sleep.ko"
    subprocess.run(["llvm-strip", "--strip-debug", module], check=True)
    return module.read_bytes()


def test_guest_files_outlive_suspend_to_ram(lab, deep_sleep):
    """The CPU that sleeps last does not go offline before, and its interrupt files lose what they
    know. Both vCPUs have theirs there, and the guest waits for its disk's interrupt with each beat."""
    machine = lab.machine()
    mark = machine.mark()
    machine.check(f"dd if=/dev/zero of={DISK} bs=1M count=64 2>/dev/null")
    guest = Beating(machine, "-M virt,aia=aplic-imsic -accel kvm,riscv-aia=hwaccel "
                    f"-drive file={DISK},if=none,id=disk,format=raw -device virtio-blk-pci,drive=disk", READ_DISK)
    machine.check("rm -f /tmp/deep_sleep")
    text = base64.b64encode(deep_sleep).decode()
    for at in range(0, len(text), 1 << 14):
        machine.check(f"echo {text[at:at + (1 << 14)]} >>/tmp/deep_sleep")
    machine.check("base64 -d /tmp/deep_sleep >/tmp/deep_sleep.ko && insmod /tmp/deep_sleep.ko; "
                  "for task in /proc/$(pidof qemu-system-riscv64)/task/*; do taskset -p 1 ${task##*/} || exit 1; done")
    machine.send("exec >/dev/ttyS0 2>&1; "
                 f"for n in $(seq {SLEEPS}); do sleep 1; echo mem >/sys/power/state; done; "
                 f"until grep -q '^code' {GUEST}; do sleep 1; done; cat {GUEST}; echo end of sleep", 700)
    console = wait_for(machine, "^end of sleep", mark, 600).replace("\r\n", "\n")
    trouble = machine.trouble(mark)
    lab.discard()
    assert console.count("PM: suspend entry (deep)") == console.count("PM: suspend exit") == SLEEPS
    assert console.count("deep_sleep: CPU 0 lost its guests' interrupt files") == SLEEPS
    guest.assert_well(guest.of(console))
    assert trouble == []


@pytest.mark.parametrize("how, last", [("poweroff", "reboot: Power down"), ("reboot", "reboot: Restarting system")])
@pytest.mark.parametrize("options", ["", "-M virt,aia=aplic-imsic"], ids=["plain", "aia"])
def test_machine_ends_under_a_guest(lab, how, last, options):
    """Nobody stops the guest: core KVM switches virtualization off under it."""
    machine = lab.machine()
    mark = machine.mark()
    Beating(machine, options)
    machine.power_off(command=f"{how} -f")
    console, trouble = machine.console(mark), machine.trouble(mark)
    lab.discard()
    assert last in console
    assert trouble == []
