# SPDX-License-Identifier: GPL-2.0
"""A Linux guest boots to its userspace under Debian's QEMU on our module."""

import re

import pytest

from kvmlab.guest import boot_guest


def boots(machine, cpus: int, options: str = "", command: str = ""):
    """Boots a guest and expects all of it: CPUs, clean kernel, clean end."""
    guest = boot_guest(machine, f"-smp {cpus} {options}", command, timeout=600)
    assert guest.done(), f"guest userspace not reached, exit {guest.exit_code}:\n{guest.output}"
    assert guest.cpus == cpus
    assert guest.trouble() == []
    return guest


@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_guest_boots(lab, cpus):
    guest = boots(lab.machine(), cpus)
    assert "_sstc" in guest.isa


def test_guest_uses_vector_and_float(lab):
    guest = boots(lab.machine(), 1, command="awk 'BEGIN { print 1.5 * 1.5 }'")
    assert "guest: 2.25" in guest.output
    assert guest.isa.startswith("rv64imafdcv")


def test_guest_hotplugs_cpu(lab):
    online = "/sys/devices/system/cpu/cpu1/online"
    guest = boots(lab.machine(), 2, command=f"echo 0 >{online}; cat {online}; echo 1 >{online}; nproc")
    assert guest.command_exit == 0
    assert "guest: 2" in guest.output


def test_guest_has_counters(lab):
    guest = boots(lab.machine(), 1, command="dmesg | grep riscv-pmu")
    assert re.search(r"22 firmware and [1-9]\d* hardware counters", guest.output)
    assert "SBI PMU snapshot detected" in guest.output


def test_two_guests_at_once(lab):
    code, output = lab.machine().run("guest -smp 2 >/tmp/a & guest -smp 2 >/tmp/b; wait; cat /tmp/a /tmp/b", 600)
    assert code == 0
    assert output.count("guest: userspace done") == 2


def test_guest_boots_without_vector_on_sv48(lab):
    guest = boots(lab.machine(cpu="plain"), 2)
    assert not guest.isa.startswith("rv64imafdcv")


def test_guest_boots_on_max(lab):
    """With all extensions that QEMU 11 models, and its firmware."""
    boots(lab.machine(cpu="max"), 2)


def test_guest_boots_on_sv39(lab):
    boots(lab.machine(cpu="sv39"), 2)


def test_guest_boots_on_one_cpu(lab):
    boots(lab.machine(smp=1), 2)


def test_guest_sees_steal_time(lab):
    """Two vCPUs have work for 3 s each, and one CPU: about half of that time is stolen. How long
    they take to get to work is the host's affair."""
    look = "awk '/^cpu / { steal = $9 } { up = $1 } END { print \"steal\", steal, up * 100 }' /proc/stat /proc/uptime"
    work = "for cpu in 0 1; do taskset -c $cpu timeout 3 sh -c 'while :; do :; done' & done; wait"
    guest = boots(lab.machine(smp=1), 2, command=f"{look}; {work}; {look}")
    before, after = [[float(n) for n in pair] for pair in re.findall(r"guest: steal (\d+) ([\d.]+)", guest.output)]
    stolen, elapsed = after[0] - before[0], after[1] - before[1]
    assert 100 < stolen < 1.5 * elapsed, f"{stolen} of {elapsed} hundredths of a second for each vCPU"
