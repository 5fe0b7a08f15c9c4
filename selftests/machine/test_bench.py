# SPDX-License-Identifier: GPL-2.0
"""Nothing is slower than with the C module: a few rows of tools/bench with few
rounds, in instructions, so that the host's load has no say."""

import pytest

from kvmlab.bench import CPU, MODULES, Row, build_program, measure, rows
from kvmlab.image import Image

QUICK = [
    "SBI base ecall",
    "SBI set_timer",
    "SBI remote_sfence_vma",
    "MMIO store",
    "ONE_REG get pc",
    "VM and vCPU",
    "G-stage fault, 4K, host page present",
    "dirty log: write fault",
    "dirty log: get",
    "memslot delete",
    "notifier unmap, page by page",
    "ageing",
]


@pytest.fixture(scope="module")
def table(lab) -> list[Row]:
    if lab.image.slowness > 1:
        pytest.skip("the debug kernel's instructions are its checks'")
    image = Image({"kvm_bench": build_program()}, ours=lab.image.ours)
    lab.discard()
    options = "-q " + " ".join(f"-k '{name}'" for name in QUICK)
    return rows(*(measure(image, module, CPU, options) for module in MODULES))


@pytest.mark.parametrize("name", QUICK)
def test_not_slower_than_c(table, name):
    found = [row for row in table if name in row.what]
    assert found, f"kvm_bench has no row {name}"
    slow = [f"{row.what}: {row.ours:.1f} instructions, C {row.c:.1f}" for row in found if row.slower]
    assert not slow, "; ".join(slow)
