# SPDX-License-Identifier: GPL-2.0
"""What the tests share: the machine, and the rule that no test passes during
which the machine's kernel complained."""

import os
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tools"), str(Path(__file__).parent)]

from kvmlab.lab import Lab  # noqa: E402
from kvmlab.machine import MachineFailure  # noqa: E402
from reporter import Reporter  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="the long variants, too")
    parser.addoption("--debug-kernel", action="store_true", help="machines run the debug kernel")
    parser.addoption("--kvm", type=Path, help="test this kvm.ko instead of the one built here")


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    plugins = config.pluginmanager
    plugins.unregister(plugins.getplugin("terminalreporter"))
    plugins.register(Reporter(config), "terminalreporter")
    option = config.getoption
    config.lab = Lab(os.environ.get("KVMLAB_MODULE_ERROR", ""), option("--debug-kernel"), option("--kvm"))


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--debug-kernel"):
        items[:] = [i for i in items if not i.get_closest_marker("debug_kernel")]


def pytest_unconfigure(config):
    config.lab.discard()


@pytest.fixture(scope="session")
def lab(request) -> Lab:
    return request.config.lab


@pytest.fixture(scope="session")
def full(request) -> bool:
    return request.config.getoption("--full")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """Fails a test when the kernel of its machine complained meanwhile."""
    lab = item.config.lab
    before, mark = lab.current, lab.current.mark() if lab.current else 0
    outcome = yield
    machine = lab.current
    if not machine or "lab" not in item.fixturenames:
        return
    trouble = machine.trouble(mark if machine is before else 0)
    if outcome.excinfo is None and trouble:
        listing = "\n".join(trouble[:10])
        message = f"the machine's kernel complained, see {machine.log}\n{listing}"
        outcome.force_exception(pytest.fail.Exception(message, pytrace=False))
    if trouble or outcome.excinfo and issubclass(outcome.excinfo[0], MachineFailure):
        lab.discard()
    elif outcome.excinfo and issubclass(outcome.excinfo[0], AssertionError):
        item.add_report_section("call", "log", str(machine.log))
