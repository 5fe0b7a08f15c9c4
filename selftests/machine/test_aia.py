# SPDX-License-Identifier: GPL-2.0
"""Linux guests whose interrupt controller is the in-kernel one, under Debian's
QEMU, with disk and network: on hosts with many interrupt files for guests and
with few, and with more vCPUs than files."""

import re

import pytest

from kvmlab.guest import boot_guest

HALF = 512
DISK = "/tmp/disk"
# The disk's second half becomes a copy of its first, and a file comes by UDP.
WORK = f"""
md5sum </dev/vda
dd if=/dev/vda of=/dev/vda bs=1k count={HALF} seek={HALF} conv=notrunc,fsync 2>&1
ifconfig eth0 10.0.2.15 up
tftp -g -b 1400 -r file -l /file 10.0.2.2 2>/dev/null
md5sum </file
cat /proc/interrupts
"""
DEVICES = ("-object iothread,id=io "
           f"-drive file={DISK},if=none,id=disk,format=raw -device virtio-blk-pci,drive=disk,iothread=io "
           "-netdev user,id=net,tftp=/tmp/tftp -device virtio-net-pci,netdev=net,romfile=")


def taken(output: str, name: str) -> int:
    """How many interrupts the guest took whose line in /proc/interrupts has `name`."""
    lines = re.findall(rf"guest:\s+\d+:((?:\s+\d+)+)\s.*{name}", output)
    return sum(int(n) for line in lines for n in line.split())


@pytest.mark.parametrize("mode, cpus, files, smp", [
    ("emul", 1, 3, 4),
    ("emul", 4, 0, 4),
    ("auto", 2, 0, 4),
    ("hwaccel", 1, 1, 4),
    ("auto", 4, 1, 2),
    ("hwaccel", 2, 3, 4),
    ("auto", 4, 3, 4),
    ("hwaccel", 4, 7, 2),
])
def test_guest_with_disk_and_network(lab, mode, cpus, files, smp):
    machine = lab.machine(aia_guests=files, smp=smp)
    machine.check(f"mkdir -p /tmp/tftp; dd if=/dev/urandom of={DISK} bs=1k count={2 * HALF}; "
                  "dd if=/dev/urandom of=/tmp/tftp/file bs=1k count=100")
    disk, file = (machine.check(f"md5sum <{name}").split()[0] for name in [DISK, "/tmp/tftp/file"])
    options = f"-smp {cpus} -M virt,aia=aplic-imsic -accel kvm,riscv-aia={mode} {DEVICES}"
    guest = boot_guest(machine, options, WORK, timeout=600)
    assert guest.done(), f"guest userspace not reached, exit {guest.exit_code}:\n{guest.output}"
    assert guest.trouble() == []
    assert guest.cpus == cpus
    assert disk in guest.output
    assert file in guest.output
    assert taken(guest.output, r"virtio\d-req") > 0
    assert taken(guest.output, r"virtio\d-input") > 0
    # What the guest wrote is on the disk.
    halves = {machine.check(f"dd if={DISK} bs=1k count={HALF} skip={skip} 2>/dev/null | md5sum")
              for skip in (0, HALF)}
    assert len(halves) == 1


def test_two_guests_share_the_files(lab):
    """Each file belongs to one vCPU at a time, and none is lost."""
    machine = lab.machine(aia_guests=1, smp=2)
    options = "-smp 2 -M virt,aia=aplic-imsic"
    for _ in range(2):
        code, output = machine.run(f"guest {options} >/tmp/a & guest {options} >/tmp/b; wait; cat /tmp/a /tmp/b", 600)
        assert code == 0
        assert output.count("guest: userspace done") == 2
    boot = boot_guest(machine, f"-smp 1 {options.split(' ', 2)[2]} -accel kvm,riscv-aia=hwaccel", timeout=600)
    assert boot.done(), boot.output
