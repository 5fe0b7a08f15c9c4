# SPDX-License-Identifier: GPL-2.0
"""A public VMM library's own tests: kvm-ioctls, through which VMMs written in Rust
reach KVM. Each does on ours what it does on the C module."""

import re
from pathlib import Path

import pytest

from c_results import remembered
from kvmlab.paths import tool

PROGRAM = "vmm-library/kvm_ioctls"
TIMEOUT = 600

# The library takes at most 200 registers, and a vCPU with vectors and AIA has more.
FAIL_ANYWHERE = {"ioctls::vcpu::tests::test_get_reg_list"}


@pytest.fixture(scope="module")
def library(request):
    """Machines that have the library's tests."""
    lab = request.config.lab.with_programs(lambda: {PROGRAM: Path(tool("vmm-library"))})
    yield lab
    lab.discard()


def outcomes(library, module: str) -> dict[str, str]:
    """What each test has ended with, and all that was printed, under the name of the program."""
    machine = library.machine(module)
    mark = machine.mark()
    _, output = machine.run(f"/selftests/{PROGRAM} --test-threads=1", TIMEOUT)
    trouble = machine.trouble(mark)
    if module == "ours":
        assert not trouble, f"the machine's kernel complained, see {machine.log}\n" + "\n".join(trouble[:10])
    ended = re.findall(r"^test (\S+)(?: - should panic)? \.\.\. (ok|FAILED|ignored)", output, re.M)
    return {**dict(ended), PROGRAM: output}


def test_vmm_library(library):
    c = remembered(library, PROGRAM, "", "full", lambda: outcomes(library, "c"),
                   lambda c: "test result:" in c[PROGRAM])
    ours = outcomes(library, "ours")
    said = [each.pop(PROGRAM)[-4000:] for each in (c, ours)]
    assert len(c) > 30, said[0]
    assert {name for name, ended in c.items() if ended != "ok"} == FAIL_ANYWHERE, said[0]
    assert ours == c, said[1]
