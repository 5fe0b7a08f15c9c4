# SPDX-License-Identifier: GPL-2.0
"""What the tests share: the machine, and the rule that no test passes during
which the machine's kernel complained."""

import os
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tools"), str(Path(__file__).parent)]

from kvmlab.image import FLAVOURS  # noqa: E402
from kvmlab.lab import Lab  # noqa: E402
from kvmlab.machine import MachineFailure  # noqa: E402
from kvmlab.paths import LOGS  # noqa: E402
from reporter import Reporter  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="the long variants, too")
    parser.addoption("--debug-kernel", action="store_true", help="all machines run the debug kernel")
    parser.addoption("--rt-kernel", action="store_true", help="all machines run the PREEMPT_RT kernel")
    parser.addoption("--kernels", choices=["usual", "others"], help="only tests that use this or these")
    parser.addoption("--kvm", type=Path, help="test this kvm.ko instead of the one built here")


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    plugins = config.pluginmanager
    plugins.unregister(plugins.getplugin("terminalreporter"))
    plugins.register(Reporter(config), "terminalreporter")
    option = config.getoption
    flavour = next((name for name in FLAVOURS if name and option(f"--{name}-kernel")), "")
    config.lab = Lab(os.environ.get("KVMLAB_MODULE_ERROR", ""), flavour, option("--kvm"))
    for name, fixture in OTHER_KERNELS.items():
        defaults = {} if option("--full") else SHORT_MACHINES.get(name, {})
        setattr(config, fixture, config.lab if name == flavour else LaterLab(name, **defaults))


# Machines of the short run. kmemleak reads all memory that is in use, KASAN's included: 30 s instead of 100.
SHORT_MACHINES = {"debug": {"memory": "2G"}}

# The fixtures for other kernels than the usual one, in the order in which those are built and used.
OTHER_KERNELS = {"rt": "rt_lab", "debug": "debug_lab"}


class LaterLab(Lab):
    """Machines of another kernel. Both kernel and module are built while other tests
    run, since the first time takes as long as all of them."""

    def __init__(self, flavour: str, **defaults):
        super().__init__(flavour=flavour, **defaults)
        self._log = LOGS / f"{flavour}-kernel.log"
        self._built = Future()

    def build(self) -> None:
        """Builds both."""
        LOGS.mkdir(parents=True, exist_ok=True)
        with open(self._log, "wb") as log:
            self._built.set_result(subprocess.call(
                ["nice", "make", "-C", TOP, "module", f"{self._flavour.upper()}=1"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT))

    def machine(self, module: str = "ours", **config):
        if self._built.result():
            pytest.fail(f"{self._flavour} kernel or its kvm.ko does not build, see {self._log}", pytrace=False)
        return super().machine(module, **config)


def later(item) -> int:
    """The place of the other kernel that a test uses, from 1; 0 for the usual one."""
    return next((n for n, fixture in enumerate(OTHER_KERNELS.values(), 1) if fixture in item.fixturenames), 0)


def pytest_collection_modifyitems(config, items):
    """Other kernels come last: they may be long in coming. They take modules of their own, so that
    they have nothing to do with one that was named."""
    if config.getoption("--kvm"):
        labs = [config.lab, *(getattr(config, fixture) for fixture in OTHER_KERNELS.values())]
        items[:] = [item for item in items if not isinstance(labs[later(item)], LaterLab)]
    if kernels := config.getoption("--kernels"):
        items[:] = [item for item in items if bool(later(item)) == (kernels == "others")]
    items.sort(key=later)


def pytest_collection_finish(session):
    """Builds one kernel after the other, in the background."""
    if session.config.getoption("collectonly"):
        return
    used = {later(item) for item in session.items}
    labs = [getattr(session.config, fixture) for n, fixture in enumerate(OTHER_KERNELS.values(), 1) if n in used]
    labs = [lab for lab in labs if isinstance(lab, LaterLab)]
    threading.Thread(target=lambda: [lab.build() for lab in labs], daemon=True).start()


def pytest_unconfigure(config):
    for fixture in ("lab", *OTHER_KERNELS.values()):
        getattr(config, fixture).discard()


@pytest.fixture(scope="session")
def lab(request) -> Lab:
    return request.config.lab


@pytest.fixture(scope="session")
def debug_lab(request) -> Lab:
    return request.config.debug_lab


@pytest.fixture(scope="session")
def rt_lab(request) -> Lab:
    return request.config.rt_lab


@pytest.fixture(scope="session")
def full(request) -> bool:
    return request.config.getoption("--full")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """Fails a test when the kernel of its machine complained meanwhile."""
    used = next((name for name in ("lab", *OTHER_KERNELS.values()) if name in item.fixturenames), None)
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
