# SPDX-License-Identifier: GPL-2.0
"""The module as a module: loading, unloading, refusing.

covers: vcpu/host.rs vcpu/trace.rs hooks/module.rs kvm.rs"""

import re

LOADS = 50


# KiB that may go in that many loads. What the module loses is gone in every
# round; what the machine does for itself is not.
ROUNDS = 6
ALLOWED = {"MemFree": 1200, "Slab": 400, "VmallocUsed": 128, "Percpu": 0}


def memory(machine) -> dict[str, int]:
    """KiB in use (free memory counts negative) once caches are empty and
    deferred frees are through."""
    machine.check("sync; echo 3 >/proc/sys/vm/drop_caches; sleep 2; echo 1 >/proc/sys/vm/compact_memory; sleep 1")
    info = machine.check("cat /proc/meminfo")
    value = {name: int(re.search(rf"^{name}: +(\d+)", info, re.MULTILINE)[1]) for name in ALLOWED}
    return value | {"MemFree": -value["MemFree"]}


def test_load_and_unload_keeps_memory(lab):
    machine = lab.machine()
    cycles = "for i in $(seq {}); do rmmod kvm && insmod /modules/ours/kvm.ko || exit 1; done".format
    # Huge pages come and go with the shell's heap.
    machine.check("echo never >/sys/kernel/mm/transparent_hugepage/enabled")
    machine.check(cycles(LOADS // 2), 600)
    rounds = []
    while not rounds or any(rounds[-1][name] > ALLOWED[name] for name in ALLOWED):
        assert len(rounds) < ROUNDS, f"KiB gone in each {LOADS} loads: {rounds}"
        before = memory(machine)
        machine.check(cycles(LOADS), 600)
        after = memory(machine)
        rounds.append({name: after[name] - before[name] for name in ALLOWED})
    machine.check("echo always >/sys/kernel/mm/transparent_hugepage/enabled")


# In a trace of the kernel's allocator: how many objects the module's own code made, and
# where it made those that nobody freed. Code that the kernel has no name for was in the
# module that is gone; or it asked a helper of the kernel's own.
UNFREED = """
    { ptr = site = ""
      for (i = 1; i <= NF; i++) { if ($i ~ /^ptr=/) ptr = $i; if ($i ~ /^call_site=/) site = $i } }
    / (kmalloc|kmem_cache_alloc): / {
      delete lost[ptr]
      if (site ~ /=(0x|rust_helper)/) { made++; lost[ptr] = site } }
    / (kfree|kmem_cache_free): / { delete lost[ptr] }
    END { print made + 0; for (ptr in lost) print lost[ptr] }
"""


def test_unload_returns_every_object(lab):
    """What the module's statics own, too, which is little, and which kmemleak does not see."""
    machine = lab.machine()
    trace = "/sys/kernel/tracing/instances/kvm_rs_unload"
    machine.check(f"mkdir {trace} && cd {trace} && echo global >trace_clock && echo 8192 >buffer_size_kb && rmmod kvm")
    machine.check(f"cd {trace}/events/kmem && for e in kmalloc kfree kmem_cache_alloc kmem_cache_free; do "
                  "echo 1 >$e/enable || exit 1; done")
    machine.check("for i in 1 2 3; do insmod /modules/ours/kvm.ko && rmmod kvm || exit 1; done; sleep 1", 120)
    machine.check(f"echo 0 >{trace}/events/kmem/enable")
    overruns = machine.check(f"grep -h ^overrun {trace}/per_cpu/*/stats").splitlines()
    made, *lost = machine.check(f"awk '{UNFREED}' {trace}/trace", 120).splitlines()
    machine.check(f"rmdir {trace}; insmod /modules/ours/kvm.ko")
    assert set(overruns) == {"overrun: 0"}
    assert int(made) > 0
    assert lost == []


def test_unload_is_refused_while_a_vm_lives(lab):
    machine = lab.machine()
    code, output = machine.run("exec 4</dev/kvm; rmmod kvm")
    assert code != 0
    assert "busy" in output or "unavailable" in output


def test_no_load_without_hypervisor_extension(lab):
    machine = lab.machine("none", cpu="no-h", smp=1)
    code, output = machine.run("insmod /modules/ours/kvm.ko")
    assert code != 0
    assert "No such device" in output


def test_modinfo(lab):
    lab.machine()
    info = lab.image.ours.read_bytes()
    assert b"\0license=GPL" in info
    assert b"\0name=kvm\0" in info


def test_tracepoints_are_those_of_c(lab):
    """Names, fields and formats; the number of an event is the kernel's affair. Linux 7.2 has fewer."""
    look = "cd /sys/kernel/tracing/events/kvm && for e in */; do echo $e; grep -v ^ID: $e/format; done"
    ours = lab.machine("ours").check(look)
    assert "kvm_mmio_emulate/" in ours
    theirs = lab.machine("c").check(look)
    if lab.image.linux == "7.2":
        names = re.compile(r"^\w+/$", re.MULTILINE)
        assert set(names.findall(theirs)) < set(names.findall(ours))
    else:
        assert theirs == ours


# Parameters that the C module lacks, and one that it has got in Linux 7.3.
MORE_PARAMETERS = {"fault_around_bytes 644 65536"}
SINCE_7_3 = {"eager_page_split 644 Y"}


def test_parameters_are_those_of_c_and_ours(lab):
    look = "cd /sys/module/kvm/parameters && for p in *; do echo $p $(stat -c %a $p) $(cat $p); done"
    ours = set(lab.machine("ours").check(look).splitlines())
    assert SINCE_7_3 <= ours
    more = MORE_PARAMETERS | SINCE_7_3 if lab.image.linux == "7.2" else MORE_PARAMETERS
    assert set(lab.machine("c").check(look).splitlines()) == ours - more
    assert MORE_PARAMETERS <= ours
