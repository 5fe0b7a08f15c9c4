# SPDX-License-Identifier: GPL-2.0
"""Our programs and guests on a PREEMPT_RT kernel, where spinlocks sleep and interrupt
handlers are threads, with lockdep and sleeping while atomic: what is taken with
preemption or interrupts disabled must be a raw lock, and what allocates must not be
there. A complaint of the kernel fails a test, as everywhere."""

import re

import pytest

from test_guest import boots
from test_ours import SOURCES, passes
from test_power import GUEST, Beating

# Run loop, vCPU load and put, interrupt files, timers, notifiers, faults, counters; the others in the full run.
SHORT = {"aplic_test", "counter_access_test", "fp_test", "gstage_fault_test", "hsm_stress_test",
         "imsic_test", "mmio_test", "pmu_snapshot_test", "sbi_ipi_test", "sbi_rfence_test", "timer_restore_test",
         "vcpu_migration_test", "vcpu_wakeup_test", "vector_test",
         "vm_teardown_test"}
# They need what Kconfig lacks for PREEMPT_RT: transparent huge pages.
NO_THP = {"huge_recovery_test"}


def pytest_generate_tests(metafunc):
    if "source" in metafunc.fixturenames:
        full = metafunc.config.getoption("--full")
        chosen = [s for s in SOURCES if s.stem in SHORT or full and s.stem not in NO_THP]
        metafunc.parametrize("source", chosen, ids=lambda s: s.stem)


def test_kernel_is_preempt_rt(rt_lab):
    assert "PREEMPT_RT" in rt_lab.machine().check("uname -v")


def test_program_on_rt_kernel(rt_lab, source):
    passes(rt_lab, source)


def test_guest_boots_on_rt_kernel(rt_lab):
    """Without an AIA: the guests that move between CPUs below have one."""
    boots(rt_lab.machine(), 2, "")


def assert_lockdep_watches(machine):
    """It switches itself off when its tables are full, or after what it reported."""
    stats = machine.check("cat /proc/lockdep_stats")
    assert re.search(r"debug_locks: +1$", stats, re.MULTILINE), stats


def test_lockdep_still_watches(rt_lab):
    """After the programs and guests above, in their machine."""
    assert_lockdep_watches(rt_lab.machine())


# Moves every thread of the guest's QEMU to another CPU, again and again from its start to its
# end, in the background; leaves the number of moves in a file.
MOVES = "/tmp/moves"
MOVE = f"""rm -f {GUEST} {MOVES}
(n=0
until grep -q '^code' {GUEST} 2>/dev/null; do
	for task in /proc/$(pidof qemu-system-riscv64)/task/*; do
		taskset -p $((1 << n % 4)) ${{task##*/}} && n=$((n + 1))
	done
	n=$((n + 1))
	sleep .1
done
echo $n >{MOVES}) </dev/null >/dev/null 2>&1 &"""


@pytest.mark.parametrize("files, mode", [(3, "hwaccel"), (1, "auto")])
def test_vcpus_move_between_cpus_on_rt_kernel(rt_lab, full, files, mode):
    """Their interrupt files move with them: from CPU to CPU, and where a CPU has one file for
    two vCPUs, between the hardware and memory, which is all that the other case does, too."""
    if mode != "auto" and not full:
        pytest.skip("takes 3 minutes: full run only")
    machine = rt_lab.machine(aia_guests=files)
    machine.check(MOVE)
    Beating(machine, f"-M virt,aia=aplic-imsic -accel kvm,riscv-aia={mode}").assert_well()
    # Booting alone takes the guest as long as several rounds.
    assert int(machine.check(f"until [ -s {MOVES} ]; do sleep .1; done; cat {MOVES}")) > 20
    assert_lockdep_watches(machine)
