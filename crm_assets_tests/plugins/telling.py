"""Numbers that a run has counted itself, printed at its end: how many tests, steps, kills and writes there were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Tell = Callable[[str], None]

_TOLD = "told"


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """``tell("519 steps")``: a line of the run's summary, under the test's name."""
    return lambda text: request.node.user_properties.append((_TOLD, text))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        if getattr(report, "when", None) == "call"
    ]
    lines = [
        f"{report.nodeid.rpartition('::')[2]}: {text}"
        for report in reports
        for name, text in report.user_properties
        if name == _TOLD
    ]
    if lines:
        terminalreporter.section("counted")
        terminalreporter.write_line(f"{len(reports)} tests")
        for line in sorted(lines):
            terminalreporter.write_line(line)
