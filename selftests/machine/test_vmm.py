# SPDX-License-Identifier: GPL-2.0
"""The newest packaged QEMU as a VMM on our module: guests that stop and go on, that are
saved and restored in another process, that have two NUMA nodes or a split irqchip, that boot
through firmware."""

import re
import shlex
import time

import pytest

from kvmlab.guest import Guest, boot_guest
from kvmlab.machine import Machine

BEATS = 30
# A guest whose CPUs each count.
TICK = ("for cpu in $(seq 0 {last}); do "
        "taskset -c $cpu sh -c 'for n in $(seq {beats}); do echo beat $0 $n; sleep .3; done' $cpu & done; wait")


class Vmm:
    """A QEMU in the background of a machine, with its monitor on a pair of pipes.

    Its exit code gets a line of its own: a guest that is stopped may be within a line."""

    def __init__(self, machine: Machine, name: str, cpus: int, options: str = ""):
        self.machine, self.path = machine, f"/tmp/{name}"
        command = shlex.quote(TICK.format(last=cpus - 1, beats=BEATS))
        pipes = f"{self.path}.in {self.path}.out"
        machine.check(f"rm -f {pipes} {self.path} {self.path}.*; mkfifo {pipes}; "
                      f"(guest -c {command} -smp {cpus} -monitor pipe:{self.path} {options}; printf '\\ncode %d\\n' $?) "
                      f"</dev/null >{self.path} 2>&1 & "
                      f"cat {self.path}.out >{self.path}.answers &")

    def monitor(self, command: str) -> None:
        """Gives QEMU a command, unless it has ended: nothing reads the pipe then."""
        path, command = self.path, shlex.quote(command)
        code, _ = self.machine.run(f"timeout 60 sh -c 'echo \"$1\" >{path}.in' sh {command}")
        assert code == 0, f"QEMU has ended: {self.output()}"

    def answers(self) -> str:
        """What the monitor has said, without the control sequences of its line editor."""
        return re.sub(r"\x1b\[[\d;]*[A-Za-z]", "", self.machine.check(f"cat {self.path}.answers"))

    def output(self) -> str:
        """The guest's console."""
        return self.machine.check(f"cat {self.path}").replace("\r\n", "\n")

    def wait_for(self, pattern: str, read, seconds: float = 300) -> str:
        deadline = time.monotonic() + seconds
        while not re.search(pattern, text := read(), re.MULTILINE):
            output = self.output()
            assert not re.search(r"^code \d+$", output, re.MULTILINE), f"QEMU has ended: {output}\n{text}"
            assert time.monotonic() < deadline, f"no {pattern} in\n{text}\n{output}"
            time.sleep(0.5)
        return text

    def end(self) -> str:
        """Waits for QEMU's own end; returns the guest's console."""
        self.machine.check(f"until grep -q ^code {self.path}; do sleep .3; done", 600)
        output, _, code = self.output().rpartition("\ncode ")
        assert int(code) == 0, f"{code}\n{output}"
        return output


def assert_ticked(output: str, cpus: int) -> None:
    """The guest reached its end and each of its CPUs counted without a gap."""
    guest = Guest(0, output)
    assert guest.done(), output
    assert guest.trouble() == []
    assert guest.cpus == cpus
    for cpu in range(cpus):
        assert [int(n) for n in re.findall(rf"guest: beat {cpu} (\d+)", output)] == list(range(1, BEATS + 1)), output


def test_guest_stops_and_goes_on(lab):
    vmm = Vmm(lab.machine(newest=True), "vmm", 2)
    for stops, beat in enumerate((2, 6, 10), 1):
        vmm.wait_for(rf"beat 0 {beat}$", vmm.output)
        vmm.monitor("stop")
        vmm.monitor("info status")
        vmm.wait_for(rf"(VM status: paused[\s\S]*){{{stops}}}", vmm.answers)
        before = vmm.output()
        time.sleep(1)
        assert vmm.output() == before, "the guest runs while it is stopped"
        vmm.monitor("cont")
    assert_ticked(vmm.end(), 2)


@pytest.mark.parametrize("cpus", [1, 4])
def test_guest_goes_on_in_another_process(lab, cpus):
    """Saved to a file and restored from it; nothing that its CPUs printed is lost or twice there.

    The guest is stopped before it is saved, since on a busy host it would otherwise reach its end first."""
    machine = lab.machine(newest=True)
    source = Vmm(machine, "source", cpus)
    source.wait_for(r"beat 0 4$", source.output)
    source.monitor("stop")
    source.monitor("migrate file:/tmp/state")

    def status() -> str:
        source.monitor("info migrate")
        return source.answers()

    answers = source.wait_for(r"Status:\s*(completed|failed)", status)
    assert re.search(r"Status:\s*completed", answers), answers
    source.monitor("quit")
    before = source.end()
    target = Vmm(machine, "target", cpus, "-incoming file:/tmp/state")

    def paused() -> str:
        target.monitor("info status")
        return target.answers()

    target.wait_for(r"VM status: paused$", paused)
    target.monitor("cont")
    after = target.end()
    machine.check("rm /tmp/state")
    assert_ticked(before + after, cpus)


@pytest.mark.parametrize("options", [
    "-M virt,aia=aplic-imsic -m 512M -object memory-backend-ram,id=m0,size=256M "
    "-object memory-backend-ram,id=m1,size=256M -numa node,memdev=m0,cpus=0-1 -numa node,memdev=m1,cpus=2-3",
    "-M virt,aia=aplic-imsic -accel kvm,kernel-irqchip=split",
    "-M virt,aia=aplic-imsic -accel kvm,kernel-irqchip=off",
], ids=["numa", "split-irqchip", "irqchip-of-userspace"])
def test_guest_of_newest_qemu_boots(lab, options):
    guest = boot_guest(lab.machine(newest=True), f"-smp 4 {options}", timeout=600)
    assert guest.done(), f"exit {guest.exit_code}:\n{guest.output}"
    assert guest.cpus == 4
    assert guest.trouble() == []


# The disk of a guest: GRUB, and what it starts.
DISK = """
mkdir -p /tmp/disk/EFI/BOOT /tmp/disk/boot/grub
cp /usr/lib/grub/riscv64-efi/monolithic/gcdriscv64.efi /tmp/disk/EFI/BOOT/BOOTRISCV64.EFI
cp /guest/Image /guest/initrd.cpio /tmp/disk
cat >/tmp/disk/boot/grub/grub.cfg <<END
linux /Image console=ttyS0 panic=-1 printk.devkmsg=on from=grub
initrd /initrd.cpio
boot
END
"""


@pytest.mark.parametrize("machine_options", ["virt", "virt,aia=aplic-imsic"], ids=["plain", "aia"])
def test_guest_boots_through_firmware(lab, machine_options):
    """U-Boot finds GRUB on a virtio disk, GRUB loads Linux from there. U-Boot is given as an ELF file:
    without firmware of its own, QEMU would put a binary elsewhere than it is linked for."""
    machine = lab.machine(newest=True)
    machine.check(DISK)
    guest = Guest(*machine.run(
        f"qemu-system-riscv64 -M {machine_options} -accel kvm -cpu host -smp 2 -m 512M -display none -monitor none "
        "-serial stdio -nic none -no-reboot -kernel /usr/lib/u-boot/qemu-riscv64_smode/uboot.elf "
        "-drive file=fat:rw:/tmp/disk,format=raw,if=virtio </dev/null", 300))
    machine.check("rm -r /tmp/disk")
    assert re.search(r"^U-Boot 20", guest.output, re.MULTILINE), guest.output
    assert re.search(r"Kernel command line: .*\bfrom=grub$", guest.output, re.MULTILINE), guest.output
    assert guest.done(), f"exit {guest.exit_code}:\n{guest.output}"
    assert guest.cpus == 2
    assert guest.trouble() == []
