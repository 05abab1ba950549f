from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from crm_assets_tests.cli.terminal import Terminal


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """Commands in a fresh home; whatever they started is gone after the test."""
    one = Terminal(tmp_path / "home")
    yield one
    one.close()
