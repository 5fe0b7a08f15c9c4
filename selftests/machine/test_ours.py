# SPDX-License-Identifier: GPL-2.0
"""Every program of selftests/kvm: passes on our module, and does on the C
module what its `on-c:` line says.

A line `also-on: CPU: RESULT` names a machine where the program has more to say
than on the usual one, and what it does on C there; on a CPU of QEMU 11 the program
may skip no part, since it runs there for what other machines lack. `on-c-debug:
RESULT` is what only the debug kernel sees. `varies` is for a defect of C that is a
race: the program fails there, or C was lucky and the test is a skip."""

import re
from pathlib import Path

import pytest

from c_results import remembered
from kvmlab.machine import CPUS, NEED_QEMU_11

SOURCES = sorted((Path(__file__).parents[1] / "kvm").glob("*_test.c"))
# The longest takes 20 s on an idle host.
TIMEOUT = 600
# The version whose C module the lines tell of; that of another may have a defect more, or less.
ON_C_LINUX = "7.3"
# Exit codes of kselftest.
SKIP = 4
OUTCOMES = {0: "pass", SKIP: "skip"}


def told(source: Path, key: str) -> str | None:
    """What the program does on C, by its own words."""
    found = re.search(rf"/\* {key}: (pass|fail|skip|varies)", source.read_text())
    return found and found[1]


# The CPU of each machine, beside the usual one, that a program wants to see.
ELSEWHERE = [(source, cpu) for source in SOURCES
             for cpu in re.findall(r"/\* also-on: ([\w-]+): ", source.read_text())]


def run(lab, module: str, source: Path, **config) -> tuple[int, str]:
    machine = lab.machine(module, **config)
    name = f"ours/{source.stem}"
    assert name in lab.image.programs, f"{source.name} does not compile, see build/selftests/log"
    code, output = machine.run(f"/selftests/{name}", TIMEOUT)
    # The program calls this a feature that is missing.
    assert "'/dev/kvm'" not in output, output
    return code, output


def passes(lab, source: Path, **config) -> str:
    """Expects it to pass on ours; returns what it printed."""
    code, output = run(lab, "ours", source, **config)
    if code == SKIP:
        pytest.skip(re.findall(r"SKIP[ -]*(.*)", output)[-1])
    assert code == 0, f"{source.stem} on our module: exit {code}\n{output}"
    return output


def does_on_c(lab, source: Path, wanted: str, cpu: str = "full"):
    """The tests tell the two modules apart where they are meant to."""
    def on_c_now() -> dict:
        mark = lab.machine("c", cpu=cpu).mark()
        code, output = run(lab, "c", source, cpu=cpu)
        outcome = OUTCOMES.get(code, "fail")
        if trouble := lab.current.trouble(mark):
            # A defect of C; what it left behind is not for the next test.
            outcome, output = "fail", "\n".join([output, *trouble])
            lab.discard()
        return {"outcome": outcome, "output": f"exit {code}\n{output[-4000:]}"}

    if wanted == "varies":
        if on_c_now()["outcome"] == "pass":
            pytest.skip(f"the race that {source.name} is about did not happen on C")
        return
    result = remembered(lab, f"ours/{source.stem}", "", cpu, on_c_now, lambda c: c["outcome"] == wanted)
    if result["outcome"] != wanted and lab.image.linux != ON_C_LINUX:
        pytest.skip(f"the line tells of the C module of Linux {ON_C_LINUX}; "
                    f"that of {lab.image.linux}: {result['outcome']}")
    assert result["outcome"] == wanted, f"{source.stem} on the C module: {result['output']}"


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_program(lab, source):
    passes(lab, source)


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
def test_program_on_c(lab, source):
    wanted = told(source, "on-c")
    if lab.image.flavour == "debug":
        wanted = told(source, "on-c-debug") or wanted
    if not wanted:
        pytest.skip(f"{source.name} has no on-c line")
    does_on_c(lab, source, wanted)


@pytest.mark.parametrize("source, cpu", ELSEWHERE, ids=lambda p: getattr(p, "stem", p))
def test_program_elsewhere(lab, source, cpu):
    output = passes(lab, source, cpu=cpu)
    if cpu in NEED_QEMU_11:
        assert re.findall(r"# SKIP.*", output) == []


def test_counters_without_aia(lab):
    """The guest has counters but not Sscofpmf, though the host has both: F19."""
    source = next(source for source in SOURCES if source.stem == "pmu_snapshot_test")
    output = passes(lab, source, cpu=f"{CPUS['max']},ssaia=false,smaia=false", qemu="11", extra=("-M", "aia=none"))
    assert "no Sscofpmf" in output


@pytest.mark.parametrize("source, cpu", ELSEWHERE, ids=lambda p: getattr(p, "stem", p))
def test_program_elsewhere_on_c(lab, source, cpu):
    does_on_c(lab, source, told(source, f"also-on: {cpu}"), cpu=cpu)
