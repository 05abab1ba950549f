"""One sandbox and one connector per CRM for all promises; tests do not disturb each other's records."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from crm_assets_tests.contract.crms import VARIABLES, VENDORS, Crm, Vendor, connect, described, seed_file
from crm_assets_tests.plugins.sandbox import Sandbox


@pytest.fixture(scope="session", params=VENDORS, ids=lambda vendor: vendor.name)
def vendor(request: pytest.FixtureRequest) -> Vendor:
    found = request.param
    assert isinstance(found, Vendor)
    return found


@pytest.fixture(scope="session")
def shared(vendor: Vendor) -> Iterator[Crm]:
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, dict.fromkeys(VARIABLES, "sandbox")):
        seed = seed_file(vendor, Path(folder) / "seed")
        sandbox = Sandbox(Path(folder) / "data", connection=vendor.name, seed_dir=seed)
        if vendor.name == "hubspot":
            sandbox.limits(calls_10s=100_000, search_1s=100_000)
        if vendor.name == "netsuite":
            os.environ["CRM_KEY"] = str(Path(folder) / "data" / "netsuite-key.pem")
        connector = connect(vendor, sandbox.url)
        yield Crm(vendor, sandbox, connector, described(vendor, connector))
        connector.close()
        sandbox.kill()


@pytest.fixture
def crm(shared: Crm) -> Iterator[Crm]:
    """Seeded with records that share one time; a test leaves no faults behind."""
    yield shared
    shared.sandbox.clear_faults()
