# SPDX-License-Identifier: GPL-2.0
"""One line per test as it ends, then the failures, then the one-line sum."""

import pytest
from _pytest.terminal import TerminalReporter


class Reporter(TerminalReporter):
    """pytest's reporter, less its headings and dots."""

    def pytest_sessionstart(self, session):
        self._session = session

    def report_collect(self, final=False):
        pass

    def pytest_runtest_logstart(self, nodeid, location):
        self.currentfspath = None

    def pytest_runtest_logfinish(self, nodeid):
        pass

    def pytest_runtest_logreport(self, report):
        if report.when != "call" and report.passed:
            return
        if report.when == "teardown" and report.failed:
            # A test that passed and then left something broken behind.
            self.stats["passed"] = [r for r in self.stats.get("passed", []) if r.nodeid != report.nodeid]
        self.stats.setdefault(report.outcome, []).append(report)
        name = report.nodeid.partition("::")[2] or report.nodeid
        reason = ": " + report.longrepr[2].removeprefix("Skipped: ") if report.skipped else ""
        self.write_line(f"{report.outcome:7} {report.duration:6.1f}s  {name}{reason}",
                        red=report.failed, yellow=report.skipped)

    @pytest.hookimpl(wrapper=True)
    def pytest_terminal_summary(self):
        self.summary_errors()
        self.summary_failures()
        return (yield)

    def summary_stats(self):
        count = {k: len(self.stats.get(k, [])) for k in ("passed", "failed", "skipped", "error")}
        self.write_line(f"{count['passed']} passed, {count['failed'] + count['error']} failed, "
                        f"{count['skipped']} skipped")
