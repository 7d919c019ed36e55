"""What every test shares: the depth of property tests, and no silence about lab tests that did not run."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from order import spread

settings.register_profile("fast", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("deep", deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("fast"), derandomize=True)  # a build says the same twice
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") == "true" else "fast"))

# What tests of one part import from another's, and `release`, whatever is run and however pytest is started.
_TESTS = Path(__file__).resolve().parent
_SHARED = ("crypto", "eap", "esp", "net", "profile", "sim", "stack")
sys.path += [str(_TESTS.parent), *(str(_TESTS / part) for part in _SHARED)]

_skipped = pytest.StashKey[list[pytest.TestReport]]()


for _number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:  # as shells start what they run in the background, and nohup
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--extended`: the tests of that mark as well."""
    parser.addoption("--extended", action="store_true", help="also run the tests that are marked `extended`")


def pytest_configure(config: pytest.Config) -> None:
    """Prepare the list of lab tests that were skipped."""
    config.stash[_skipped] = []
    config.pluginmanager.register(_LabWatch(config.stash[_skipped]), "lab-watch")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is `extended` unless asked; spread the tests that mostly wait, if several run at a time."""
    if not config.getoption("--extended"):
        left_out = [item for item in items if item.get_closest_marker("extended")]
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if not item.get_closest_marker("extended")]
    if hasattr(config, "workerinput"):
        items[:] = spread(items)


class _LabWatch:
    """Remembers skipped lab tests, says so in the summary and, under CI, turns them into a failed run."""

    def __init__(self, skipped: list[pytest.TestReport]) -> None:
        self._skipped = skipped

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and "lab" in report.keywords and not hasattr(report, "wasxfail"):
            self._skipped.append(report)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._skipped and os.environ.get("CI") == "true" and session.exitstatus in (0, 5):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._skipped:
            return
        reasons = {str(report.longrepr[2]) for report in self._skipped if isinstance(report.longrepr, tuple)}
        terminalreporter.section("LAB TESTS SKIPPED", sep="!", red=True, bold=True)
        terminalreporter.write_line(f"{len(self._skipped)} tests against a real gateway did not run:")
        for reason in sorted(reasons):
            terminalreporter.write_line(f"  {reason}")
        if os.environ.get("CI") == "true":
            terminalreporter.write_line("This fails the run because CI=true.")
