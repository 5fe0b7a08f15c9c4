# SPDX-License-Identifier: GPL-2.0
"""What the tests share: the machine, and the rule that no test passes during
which the machine's kernel complained."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tools"), str(Path(__file__).parent)]

from kvmlab.lab import Lab  # noqa: E402
from kvmlab.machine import MachineFailure  # noqa: E402
from kvmlab.paths import LOGS  # noqa: E402
from reporter import Reporter  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="the long variants, too")
    parser.addoption("--debug-kernel", action="store_true", help="all machines run the debug kernel")
    parser.addoption("--kvm", type=Path, help="test this kvm.ko instead of the one built here")


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    plugins = config.pluginmanager
    plugins.unregister(plugins.getplugin("terminalreporter"))
    plugins.register(Reporter(config), "terminalreporter")
    option = config.getoption
    debug = option("--debug-kernel")
    config.lab = Lab(os.environ.get("KVMLAB_MODULE_ERROR", ""), debug, option("--kvm"))
    config.debug_lab = config.lab if debug else DebugLab()


class DebugLab(Lab):
    """Machines of the debug kernel. Both kernel and module are built while other
    tests run, since the first time takes as long as all of them."""

    LOG = LOGS / "debug-kernel.log"

    def __init__(self):
        super().__init__(debug=True)
        self._build = None

    def prepare(self) -> None:
        """Begins to build."""
        LOGS.mkdir(parents=True, exist_ok=True)
        with open(self.LOG, "wb") as log:
            self._build = subprocess.Popen(["nice", "make", "-C", TOP, "module", "DEBUG=1"], stdin=subprocess.DEVNULL,
                                           stdout=log, stderr=subprocess.STDOUT)

    def machine(self, module: str = "ours", **config):
        if self._build and self._build.wait():
            pytest.fail(f"debug kernel or its kvm.ko does not build, see {self.LOG}", pytrace=False)
        return super().machine(module, **config)


def pytest_collection_modifyitems(config, items):
    """The debug kernel comes last: it may be long in coming. It takes a module of its own, so that
    it has nothing to do with one that was named."""
    if config.getoption("--kvm") and not config.getoption("--debug-kernel"):
        items[:] = [item for item in items if "debug_lab" not in item.fixturenames]
    items.sort(key=lambda item: "debug_lab" in item.fixturenames)


def pytest_collection_finish(session):
    lab, option = session.config.debug_lab, session.config.getoption
    if isinstance(lab, DebugLab) and not option("collectonly") \
            and any("debug_lab" in item.fixturenames for item in session.items):
        lab.prepare()


def pytest_unconfigure(config):
    for lab in (config.lab, config.debug_lab):
        lab.discard()


@pytest.fixture(scope="session")
def lab(request) -> Lab:
    return request.config.lab


@pytest.fixture(scope="session")
def debug_lab(request) -> Lab:
    return request.config.debug_lab


@pytest.fixture(scope="session")
def full(request) -> bool:
    return request.config.getoption("--full")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """Fails a test when the kernel of its machine complained meanwhile."""
    used = next((name for name in ("lab", "debug_lab") if name in item.fixturenames), None)
    if not used:
        yield
        return
    lab = getattr(item.config, used)
    before, mark = lab.current, lab.current.mark() if lab.current else 0
    outcome = yield
    machine = lab.current
    if not machine:
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
