"""Fixtures of all rooms. The product's environment variables never reach a test."""

from __future__ import annotations

import os

pytest_plugins = [
    "crm_assets_tests.plugins.postgres",
    "crm_assets_tests.plugins.sandbox",
    "crm_assets_tests.plugins.linked",
    "crm_assets_tests.plugins.hubspot",
]

for _name in [name for name in os.environ if name.startswith(("CRM_ASSETS_", "SALESFORCE_", "HUBSPOT_", "DAGSTER_"))]:
    del os.environ[_name]
