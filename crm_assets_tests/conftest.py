"""Fixtures of all rooms. The product's environment variables never reach a test."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

pytest_plugins = [
    "crm_assets_tests.plugins.postgres",
    "crm_assets_tests.plugins.sandbox",
    "crm_assets_tests.plugins.linked",
    "crm_assets_tests.plugins.hubspot",
    "crm_assets_tests.plugins.netsuite",
    "crm_assets_tests.plugins.telling",
]

_OURS = ("CRM_ASSETS_", "SALESFORCE_", "HUBSPOT_", "NETSUITE_", "DAGSTER_")
for _name in [name for name in os.environ if name.startswith(_OURS)]:
    del os.environ[_name]

# Hundreds of databases and sandboxes come and go, and none outlives its test: they need no disk where memory is plenty.
_MEMORY = Path("/dev/shm")
if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > 6 * 2**30:
    os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)
