# SPDX-License-Identifier: GPL-2.0
"""Our programs and a guest on the debug kernel: KASAN, lockdep, sleeping while
atomic, kmemleak, UBSAN, Rust's debug assertions and overflow checks. The
programs run on our module alone; a complaint of the kernel fails a test, as
everywhere. And KUnit, which no other kernel here has."""

import re

import pytest

from kvmlab.paths import TOP
from test_guest import boots
from test_ours import SOURCES, passes

LEAKS = "/sys/kernel/debug/kmemleak"

# Under KASAN these take half a minute or more each: in the full run only.
LONG = {"ageing_test", "aia_device_test", "aia_hotplug_test", "dirty_ring_test", "fault_around_test",
        "gstage_stress_test", "huge_recovery_test", "hugetlb_test", "imsic_test", "irqfd_aia_test",
        "memory_kinds_test", "memory_return_test", "memory_soak_test", "memslot_hotplug_test", "migration_test",
        "pgtable_dump_test", "pre_fault_memory_test", "sbi_srst_test", "sbi_v01_test", "swap_test",
        "timer_restore_test", "userfaultfd_test"}

# How long the fuzzers of selftests/kvm run, in seconds: usually, and in the full run.
FUZZ_SECONDS = 20, 300

# Those that have a test of their own below.
APART = {"fault_injection_test", "guest_fuzz_test", "ioctl_fuzz_test"}

# The suites of rust/ by name, each with the file that has it.
SUITES = {name: path for path in sorted((TOP / "rust").rglob("*.rs"))
          for name in re.findall(r"^#\[kunit_tests\((\w+)\)\]", path.read_text(), re.M)}


@pytest.fixture(scope="module", autouse=True)
def leaks_of_before(debug_lab):
    """Are not ours."""
    debug_lab.machine().check(f"echo clear >{LEAKS}")


@pytest.fixture(scope="module")
def kunit_log(debug_lab):
    """What KUnit says of a module that is loaded."""
    machine = debug_lab.machine()
    machine.check("dmesg -c >/dev/null")
    machine.insmod("ours")
    return machine.check("dmesg")


@pytest.mark.parametrize("suite", SUITES)
def test_kunit(kunit_log, suite):
    """Each test of the suite has run, and has passed."""
    tests = re.findall(r"#\[test\]\n +fn (\w+)", SUITES[suite].read_text())
    log = re.sub(r"^\[ *[\d.]+\] ?", "", kunit_log, flags=re.M)
    _, _, told = log.partition(f"    # Subtest: {suite}\n")
    told, end, _ = told.partition(f" {suite}\n")
    assert end, f"{suite} has not ended:\n{told}"
    assert tests
    assert re.findall(r"^    ((?:not )?ok) \d+ (\w+)", told, re.M) == [("ok", test) for test in tests], told


def pytest_generate_tests(metafunc):
    if "source" in metafunc.fixturenames:
        full = metafunc.config.getoption("--full")
        chosen = [source for source in SOURCES if source.stem not in APART and (full or source.stem not in LONG)]
        metafunc.parametrize("source", chosen, ids=lambda s: s.stem)


def test_program_on_debug_kernel(debug_lab, source):
    passes(debug_lab, source)


@pytest.mark.parametrize("name", sorted(name for name in APART if "fuzz" in name))
def test_fuzzer_on_debug_kernel(debug_lab, full, name):
    """With KCOV's guidance."""
    seconds = FUZZ_SECONDS[full]
    output = debug_lab.machine().check(f"/selftests/ours/{name} -t {seconds}", seconds + 120)
    assert re.search(r"^# \d{3,} places of code reached; [1-9]\d* rounds kept$", output, re.M), output


@pytest.mark.parametrize("options", ["", "-M virt,aia=aplic-imsic"], ids=["plain", "aia"])
def test_guest_boots_on_debug_kernel(debug_lab, full, options):
    if not options and not full:
        pytest.skip("the PREEMPT_RT kernel boots it, with lockdep: full run only")
    boots(debug_lab.machine(), 2, options)


def test_allocations_of_operations_fail_once(debug_lab):
    """What this leaks is found below."""
    debug_lab.machine().check("/selftests/ours/fault_injection_test -q", 600)


def leaks(machine) -> str:
    """What kmemleak says once the module is gone."""
    machine.insmod("none")
    # An object counts as lost once it is 5 s old and two scans did not find it.
    found = machine.check(f"sleep 6 && echo scan >{LEAKS} && sleep 6 && echo scan >{LEAKS} && cat {LEAKS}", 600)
    machine.insmod("ours")
    return found


def test_kmemleak_finds_nothing(debug_lab):
    """Of all that ran above."""
    assert leaks(debug_lab.machine()) == ""


def test_every_allocation_fails_once(debug_lab, full):
    """Those of loading and unloading, too; in a machine without KUnit, which would run its suites at
    each load of the module."""
    if not full:
        pytest.skip("takes 20 minutes: full run only")
    machine = debug_lab.machine(append="")
    machine.check(f"echo clear >{LEAKS}")
    machine.check("/selftests/ours/fault_injection_test", 2400)
    assert leaks(machine) == ""
