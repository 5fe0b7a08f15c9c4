# SPDX-License-Identifier: GPL-2.0
"""Every kind of memory behind a slot, by every access, around everything that the
host can do to it: ours takes no more G-stage faults than the C module.

The machine has a PCI device with a BAR of memory, for what VFIO maps."""

import re

import pytest

from c_results import remembered

PROGRAM = "ours/memory_kinds_test"
BAR = ("-object", "memory-backend-ram,id=bar,size=4M,share=on", "-device", "ivshmem-plain,memdev=bar")
TIMEOUT = 900
LINE = re.compile(r"^(\S+) (\S+) (\S+): first (\d+) second (\d+)(.*)$", re.MULTILINE)
OTHER = re.compile(r"^(\S+) (\S+) (\S+): *(not here|refused|not for it|never ends)$", re.MULTILINE)

# A 2M block needs one fault; the slot has two of them, and the guest touches this many pages.
BLOCKS, PAGES = 2, 96


def sweep(lab, module: str) -> dict[str, list[int]]:
    """Faults of both rounds for each combination: "kind access event" -> [first, second]."""
    code, output = lab.machine(module, extra=BAR).run(f"/selftests/{PROGRAM}", TIMEOUT)
    assert code == 0, f"memory_kinds_test on {module}: exit {code}\n{output[-4000:]}"
    # On C, after logging, the stores to what was a block (M3).
    assert module == "c" or "never ends" not in output, output
    found = {" ".join(m[:3]): [int(m[3]), int(m[4])] for m in LINE.findall(output)}
    return found | {" ".join(m[:3]): [] for m in OTHER.findall(output)}


def allowed(name: str, faults: int) -> int:
    """How many faults ours may take where C took `faults` of them.

    What is swapped out differs: pages that a CPU is about to put on an LRU list stay. Those that
    go come back one by one, on both modules."""
    return max(faults, PAGES) if "pageout" in name or name.startswith("swapped") else faults


@pytest.fixture(scope="module")
def on_c(lab):
    def run():
        return sweep(lab, "c")
    return remembered(lab, PROGRAM, "sweep", "full", run)


@pytest.fixture(scope="module")
def on_ours(lab, on_c):
    return sweep(lab, "ours")


def test_never_more_faults_than_c(on_c, on_ours):
    assert on_c.keys() == on_ours.keys()
    compared = {name for name in on_c if on_c[name] and on_ours[name]}
    # Those that only C refuses are kinds that it does not know.
    refused = [name for name in on_c if on_c[name] and not on_ours[name]]
    assert not refused, f"ours refuses what C does not: {refused}"
    worse = {name: (on_c[name], on_ours[name]) for name in compared
             if any(ours > allowed(name, c) for c, ours in zip(on_c[name], on_ours[name], strict=True))}
    assert not worse, "more faults than C (C, ours):\n" + "\n".join(f"{n}: {v}" for n, v in worse.items())
    assert len(compared) > 150


@pytest.mark.parametrize("kind, access", [
    # F21: what nobody has written yet.
    ("huge-zero-page", "load"), ("huge-zero-page", "fetch"), ("thp-absent", "load"),
    # F22: the memory of a device.
    ("pfnmap-huge", "load"), ("pfnmap-huge", "store"), ("pfnmap-huge", "fetch"),
    ("thp", "store"), ("shmem-thp", "store"), ("hugetlb-2m", "store"),
])
def test_blocks_are_mapped_as_such(on_ours, kind, access):
    assert on_ours[f"{kind} {access} none"] == [BLOCKS, 0]


def test_emptied_tables_give_way(on_ours):
    # F25: 2M blocks where small pages were unmapped in an unusual order.
    assert on_ours["anon store in-pieces"][1] == BLOCKS


def test_logging_ends_without_a_trace(on_ours):
    # F23: runs come back where the slot begins within one, without a fault.
    assert on_ours["hugetlb-64k-at-4k store log"][1] == 0
    assert on_ours["thp store log"][1] == 0
