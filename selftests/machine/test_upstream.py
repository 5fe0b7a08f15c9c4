# SPDX-License-Identifier: GPL-2.0
"""The kernel's own KVM selftests, unmodified: ours must do what the C module
does in the same kind of machine.

What C does is remembered beside the kernel, by program and arguments.

covers: vcpu/stat.rs kvm_core/stats.rs vcpu/onereg/table.rs"""

import re
from dataclasses import asdict, dataclass

import pytest

from c_results import remembered
from kvmlab.machine import MachineFailure

SKIP = 4
SHORT_SECONDS, FULL_SECONDS = 600, 3000

# steal_time asks for the affinity of a thread that may have ended already, on a host that is busy.
RACE_OF_PROGRAM = "pthread_getaffinity_np failed, rc: 3"
TRIES = 3


@dataclass(frozen=True)
class Program:
    """How a selftest is run; `short` None means only in the full run.

    The short forms test the same on less memory or in fewer rounds: TCG is
    some fifty times slower than hardware. `part` are arguments of both, where
    a program is run in parts, and `huge` how many huge pages of 2M the machine
    has then. `stands_for` names the program that a shortened build is of."""

    name: str
    short: str | None = ""
    full: str = ""
    part: str = ""
    huge: int = 0
    stands_for: str | None = None

    def __str__(self) -> str:
        return f"{self.name} {self.part}".strip()


PROGRAMS = [
    # The guest's clock runs on while TCG has no host CPU for its vCPU, so the
    # default margin of 100 us for a timer interrupt is missed on C, too.
    Program("arch_timer", "-n 4 -e 500000", "-e 500000"),
    Program("coalesced_io_test"),
    Program("demand_paging_test", "-b 64M -v 2"),
    Program("demand_paging_test", "-b 2M -v 4", "-b 64M -v 4", part="-u MISSING"),
    Program("demand_paging_test", "-b 2M -v 4", "-b 64M -v 4", part="-u MINOR -s shmem"),
    Program("demand_paging_test", "-b 16M -v 4", "-b 16M -v 4", part="-u MINOR -s shared_hugetlb", huge=48),
    Program("demand_paging_test", "-b 16M -v 4", "-b 16M -v 4", part="-u MISSING -s anonymous_hugetlb_2mb", huge=48),
    # One userfaultfd and two that read from it, and all vCPUs want the same.
    Program("demand_paging_test", None, "-b 1M -v 4", part="-u MISSING -o -r 2"),
    Program("dirty_log_perf_test", "-b 8M -v 2", "-b 64M -v 2"),
    Program("dirty_log_perf_test", "-b 8M -v 2 -i 2", "-b 64M -v 2", part="-s anonymous_thp -g -x 2"),
    Program("dirty_log_test", "-i 2 -I 5", part="-M dirty-log"),
    Program("dirty_log_test", "-i 2 -I 5", part="-M clear-log"),
    Program("dirty_log_test", "-i 2 -I 5", part="-M dirty-ring"),
    # The ring is full all the time.
    Program("dirty_log_test", None, "-i 2 -I 5", part="-M dirty-ring -c 1024"),
    Program("ebreak_test"),
    Program("get-reg-list"),
    Program("guest_print_test"),
    Program("irqfd_test"),
    Program("kvm_binary_stats_test"),
    Program("kvm_create_max_vcpus"),
    Program("kvm_page_table_test", "-b 16M"),
    Program("kvm_page_table_test", "-b 16M -v 2", "-b 512M -v 2", part="-s anonymous_thp"),
    Program("kvm_page_table_test", "-b 16M -v 2", "-b 128M -v 2", part="-s anonymous_hugetlb_2mb", huge=72),
    Program("kvm_page_table_test", "-b 4M -v 2", "-b 128M -v 2", part="-s shmem"),
    Program("memslot_modification_stress_test", "-b 32M -i 10 -v 2"),
    Program("memslot_modification_stress_test", None, "-b 4M -i 10 -v 4", part="-o"),
    Program("memslot_perf_test", None, "-l 2 -t 60 -s 512"),
    Program("mmu_stress_test", None, "-c 2 -m 1 -s 1"),
    # A build with fewer migrations, see selftests/kvm/Makefile.
    Program("rseq_test_short", stands_for="rseq_test"),
    Program("rseq_test", None),
    Program("sbi_pmu_test", part="-t basic"),
    Program("sbi_pmu_test", part="-t events"),
    Program("sbi_pmu_test", part="-t snapshot"),
    Program("set_memory_region_test"),
    Program("steal_time"),
    Program("access_tracking_perf_test", "-b 8M -v 1", "-b 32M -v 1"),
    Program("access_tracking_perf_test", "-b 8M -v 2", "-b 32M -v 2", part="-o -s anonymous_thp"),
    Program("vm_types_test"),
]


@dataclass
class Result:
    """What a run showed: exit code and the TAP lines that say ok."""

    code: int
    passed: list[str]
    tail: str

    def verdict(self) -> str:
        return {0: "pass", SKIP: "skip"}.get(self.code, f"fail ({self.code})")


# What depends on the CPU, on CPUs that differ in what it depends on: ISA, page
# table modes, the timer's hardware.
MODELS = ["plain", "sv39", "svade", "no-sstc", "rva23"]
# The last of them have the counters that a guest's PMU is made of.
WITH_COUNTERS = MODELS[2:]
# Of a QEMU that delivers their overflows, and has extensions that the other lacks.
NEWER = ["max"]
ON_MODELS = [(program, cpu) for program, models in [
    (Program("get-reg-list"), MODELS + NEWER),
    (Program("sbi_pmu_test", part="-t overflow"), NEWER),
    (Program("steal_time"), MODELS),
    (Program("arch_timer", "-n 2 -i 3 -e 500000", "-e 500000"), [m for m in MODELS if m != "no-sstc"]),
    (Program("sbi_pmu_test", part="-t basic"), WITH_COUNTERS),
] for cpu in models]


def run(lab, module: str, program: Program, command: str, timeout: float, cpu: str) -> Result:
    try:
        machine = lab.machine(module, cpu=cpu)
        machine.check(f"echo {program.huge} >/proc/sys/vm/nr_hugepages")
        for _ in range(TRIES):
            code, output = machine.run(f"cd /selftests/upstream && ./{command}", timeout)
            if RACE_OF_PROGRAM not in output:
                break
    except MachineFailure as e:
        if module == "ours":
            raise
        code, output = -1, str(e)
    passed = [line for line in re.findall(r"^ok \d+ (.*?)\s*$", output, re.MULTILINE) if "SKIP" not in line]
    return Result(code, passed, output[-2000:])


def on_c(lab, program: Program, command: str, timeout: float, cpu: str) -> Result:
    """The C module's result."""
    def on_c_now() -> dict:
        mark = lab.machine("c", cpu=cpu).mark()
        result = run(lab, "c", program, command, timeout, cpu)
        if lab.current.trouble(mark):
            lab.discard()
        return asdict(result)

    # A machine that took too long, or died, says nothing of the next time.
    return Result(**remembered(lab, f"upstream/{program.name}", command, cpu, on_c_now, lambda c: c["code"] >= 0))


def pytest_generate_tests(metafunc):
    if "program" not in metafunc.fixturenames:
        return
    full = metafunc.config.getoption("--full")
    chosen = [p for p in PROGRAMS if (not p.stands_for if full else p.short is not None)]
    # By CPU, so that each machine boots once.
    models = sorted(ON_MODELS, key=lambda pair: (MODELS + NEWER).index(pair[1]))
    metafunc.parametrize("program, cpu", [(p, "full") for p in chosen] + models,
                         ids=[str(p) for p in chosen] + [f"{p} {cpu}" for p, cpu in models])


def test_upstream(lab, full, program, cpu):
    timeout = FULL_SECONDS if full else SHORT_SECONDS
    command = f"{program} {program.full if full else program.short}".strip()
    c = on_c(lab, program, command, timeout, cpu)
    ours = run(lab, "ours", program, command, timeout, cpu)

    lost = sorted(set(c.passed) - set(ours.passed))
    assert not lost, f"passed on C, not on ours: {lost}\n{ours.tail}"
    if c.code not in (0, SKIP) and ours.code not in (0, SKIP):
        pytest.skip(f"C: {c.verdict()}, ours: {ours.verdict()}; `{command}` tells nothing here")
    if c.code == SKIP and ours.code == SKIP:
        pytest.skip("; ".join(re.findall(r"# SKIP -? ?(.*)", ours.tail)[-1:]))
    assert ours.code == 0 or c.code == ours.code, f"C: {c.verdict()}, ours: {ours.verdict()}\n{ours.tail}"


# In little-endian bytes: sstatus.UXL of a new vCPU says 64 bits, where C has no width.
SSTATUS = "reg 0x8030000003000000 = "
OURS_ONLY = {f"{SSTATUS}00 00 00 00 00 00 00 00": f"{SSTATUS}00 00 00 00 02 00 00 00"}


@pytest.mark.parametrize("cpu", ["full", *MODELS, *NEWER])
def test_registers_are_those_of_c(lab, cpu):
    """Which registers a new vCPU has, in which order, with which values; get-reg-list itself only
    wants some of them."""
    def printed(module: str) -> list[str]:
        output = lab.machine(module, cpu=cpu).check("/selftests/ours/reg_list_test")
        return re.findall(r"^# (reg .*)", output, re.MULTILINE)

    ours = printed("ours")
    assert len(ours) > 60
    assert ours == [OURS_ONLY.get(line, line) for line in printed("c")]
