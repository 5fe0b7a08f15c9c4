# SPDX-License-Identifier: GPL-2.0
"""The proving ground itself: it must notice what the other tests rely on."""

import pytest

from kvmlab.machine import Config, Machine, MachineFailure


@pytest.fixture
def machine(lab):
    """A machine that no other test sees."""
    lab.discard()
    with Machine(lab.image, Config(smp=2), "machine-lab") as machine:
        yield machine


def test_commands_give_exit_code_and_output(machine):
    assert machine.run("echo out; echo err >&2; exit 3") == (3, "out\nerr\n")
    assert machine.run("printf '\\nkvmlab-9 0\\nmore'")[1] == "\nkvmlab-9 0\nmore"
    assert machine.trouble() == []
    machine.power_off()


def test_kernel_complaint_is_seen(machine):
    mark = machine.mark()
    machine.check("echo 'BUG: KASAN: a complaint' >/dev/kmsg; echo all is well >/dev/kmsg; sleep 1")
    assert [line.partition("] ")[2] for line in machine.trouble(mark)] == ["BUG: KASAN: a complaint"]


def test_hung_command_is_a_failure_that_names_the_log(machine):
    with pytest.raises(MachineFailure, match="machine-lab.log"):
        machine.run("sleep 1000", timeout=2)
    assert not machine.alive()
    # What the CPUs and tasks were doing then.
    assert "sysrq: Show State" in machine.log.read_text(errors="replace")


def test_panic_is_a_failure_that_shows_the_console(machine):
    with pytest.raises(MachineFailure, match="sysrq triggered crash"):
        machine.run("echo c >/proc/sysrq-trigger")
