# SPDX-License-Identifier: GPL-2.0
"""Every program of selftests/kvm: passes on our module, and does on the C
module what its `on-c:` line says."""

import re
from pathlib import Path

import pytest

SOURCES = sorted((Path(__file__).parents[1] / "kvm").glob("*_test.c"))
TIMEOUT = 120
# Exit codes of kselftest.
SKIP = 4
OUTCOMES = {0: "pass", SKIP: "skip"}


def run(lab, module: str, source: Path, **config) -> tuple[int, str]:
    machine = lab.machine(module, **config)
    name = f"ours/{source.stem}"
    assert name in lab.image.programs, f"{source.name} does not compile, see build/selftests/log"
    return machine.run(f"/selftests/{name}", TIMEOUT)


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_program(lab, source):
    code, output = run(lab, "ours", source)
    if code == SKIP:
        pytest.skip(re.findall(r"SKIP[ -]*(.*)", output)[-1])
    assert code == 0, f"{source.stem} on our module: exit {code}\n{output}"


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_program_on_c(lab, source):
    """The tests tell the two modules apart where they are meant to."""
    told = re.search(r"on-c: (pass|fail|skip)", source.read_text())
    if not told:
        pytest.skip(f"{source.name} has no on-c line")
    mark = lab.machine("c").mark()
    code, output = run(lab, "c", source)
    outcome = OUTCOMES.get(code, "fail")
    if trouble := lab.current.trouble(mark):
        # A defect of C; what it left behind is not for the next test.
        outcome, output = "fail", "\n".join([output, *trouble])
        lab.discard()
    assert outcome == told[1], f"{source.stem} on the C module: exit {code}\n{output}"
