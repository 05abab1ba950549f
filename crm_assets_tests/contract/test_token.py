"""Tokens: one that ends in the middle of a page is renewed, and nobody notices."""

from __future__ import annotations

import pytest

from crm_assets.core.errors import ConfigurationError
from crm_assets_tests.contract.crms import SECRETS, Crm, connect, described


def test_a_token_that_ends_in_the_middle_is_renewed(crm: Crm) -> None:
    connector = connect(crm.vendor, crm.sandbox.url, crm.vendor.renewing)
    try:
        obj = described(crm.vendor, connector)
        pages = connector.read(obj, None)
        found = next(pages).table["id"].to_pylist()
        crm.sandbox.faults({"kind": "expired_token", "path": crm.vendor.read_path})
        for page in pages:
            found += page.table["id"].to_pylist()
        assert len(found) == len(set(found)) and set(crm.ids) <= set(found)
        assert set(connector.fetch(obj, crm.ids[:2]).table["id"].to_pylist()) == set(crm.ids[:2])
    finally:
        connector.close()


def test_wrong_credentials_name_their_variables(crm: Crm, monkeypatch: pytest.MonkeyPatch) -> None:
    for credentials in (crm.vendor.credentials, crm.vendor.renewing):
        connector = connect(crm.vendor, crm.sandbox.url, credentials)
        secret = next(name for name in SECRETS if name in credentials)
        monkeypatch.setenv(credentials[secret], "wrong")
        with pytest.raises(ConfigurationError, match=credentials[secret]) as told:
            connector.describe(crm.vendor.object)
        assert "wrong" not in str(told.value)
        connector.close()


def test_a_missing_variable_is_named(crm: Crm, monkeypatch: pytest.MonkeyPatch) -> None:
    connector = connect(crm.vendor, crm.sandbox.url)
    secret = next(name for name in SECRETS if name in crm.vendor.credentials)
    monkeypatch.delenv(crm.vendor.credentials[secret])
    with pytest.raises(ConfigurationError, match=crm.vendor.credentials[secret]):
        connector.describe(crm.vendor.object)
    connector.close()
