"""``check <connection>``: what an account does not let us do is named, with the menu where an admin mends it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from crm_assets.connectors import registry
from crm_assets.core.errors import ConfigurationError
from crm_assets.core.readiness import Finding, Standing
from crm_assets.store.database import Database
from crm_assets.up import check, working
from crm_assets.up.account import look
from crm_assets_tests.plugins.hubspot import MakeHubspot
from crm_assets_tests.plugins.linked import Link, MakeLink
from crm_assets_tests.plugins.netsuite import MakeNetsuite


def found(link: Link, standing: Standing | None = None) -> dict[str, list[Finding]]:
    """Findings by what they are about."""
    connector = registry.make(link.spec.config(), link.connector.gate)
    by: dict[str, list[Finding]] = {}
    for finding in look(connector, link.spec):
        if standing in (None, finding.standing):
            by.setdefault(finding.about, []).append(finding)
    connector.close()
    return by


def only(findings: list[Finding], *words: str) -> Finding:
    """The one finding with these words in it or in its remedy."""
    (one,) = [f for f in findings if all(word in f"{f.said} {f.remedy}" for word in words)]
    return one


def stream(link: Link, topics: str) -> None:
    """What options say of the stream."""
    options = {"pubsub_topics": topics, "pubsub_endpoint": link.sandbox.pubsub}
    link.spec = link.spec.model_copy(update={"options": options})


def test_salesforce(make_link: MakeLink) -> None:
    link = make_link(objects=("Account", "Contact", "Lead", "User"), streams=True, keep_alive_seconds=0.1)
    stream(link, "/data/ChangeEvents")
    assert found(link, Standing.FIX) == {}
    well = found(link, Standing.OK)
    assert only(well["push"], "/data/ChangeEvents", "can be followed")
    assert only(well["limits"], "bulk queries") and only(well["Contact"], "records")

    box = link.sandbox
    box.control("POST", "/change_data_capture", {"object": "Lead", "selected": False})
    box.schema("Contact", "hide", "Crm_Assets_Row_Id__c")
    box.schema("User", "hide", "")
    link.choose("Account", fields=["Name", "Industri"], where="Nam = 'x'")
    wrong = found(link, Standing.FIX)
    assert only(wrong["Lead"], "Change Data Capture").remedy == "Setup > Change Data Capture: choose Lead"
    assert only(wrong["Contact"], "Crm_Assets_Row_Id__c", "Setup > Object Manager > Contact", "External ID")
    assert only(wrong["User"], "User")
    assert only(wrong["Account"], "Industri", "did you mean Industry?")
    assert only(wrong["Account"], "cannot be counted", "correct where")
    assert not {"push", "limits"} & wrong.keys()

    stream(link, "/data/ContactChangeEvent")
    assert "/data/AccountChangeEvent" in only(found(link)["Account"], "none of options.pubsub_topics").remedy
    stream(link, "")
    assert only(found(link, Standing.NOTE)["push"], "no stream is followed", "Setup > Change Data Capture")


def test_hubspot(make_hubspot: MakeHubspot) -> None:
    link = make_hubspot("contacts", "companies", "emails", "owners", "contacts_to_companies")
    assert found(link, Standing.FIX) == {}
    assert only(found(link)["scopes"], "all that is needed") and only(found(link)["push"], "Private Apps", "Webhooks")
    granted = [f"crm.objects.{kind}.read" for kind in ("contacts", "companies")]
    link.sandbox.control("POST", "/scopes", {"scopes": granted})
    wrong = found(link, Standing.FIX)
    assert only(wrong["contacts"], "crm.objects.contacts.write").remedy.startswith(
        "Settings > Integrations > Private Apps"
    )
    assert only(wrong["emails"], "sales-email-read") and only(wrong["owners"], "its records may not be read")
    assert {f.said.rpartition(" ")[2] for f in wrong["contacts_to_companies"]} == {
        "crm.objects.contacts.write",
        "crm.objects.companies.write",
    }


def test_netsuite(make_netsuite: MakeNetsuite) -> None:
    link = make_netsuite("customer", "salesOrder", "salesOrder_item", "item")
    assert found(link, Standing.FIX) == {}
    assert only(found(link)["concurrency"], "15 of the account's 15")
    assert only(found(link)["deletions"], "listed") and only(found(link)["push"], "Customization > Scripting")
    link.sandbox.limits(concurrency=5)
    assert "account_concurrency: 5" in only(found(link, Standing.FIX)["concurrency"], "allows 5").remedy
    link.choose("item", write=True)
    assert only(found(link, Standing.FIX)["item"], "may not be created or updated", "Manage Roles")


@pytest.fixture
def as_command(make_link: MakeLink, db: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], int]:
    """The command, on one contact object of a fresh sandbox."""
    link = make_link(objects=("Contact",))
    folder = tmp_path / "defs" / "salesforce"
    folder.mkdir(parents=True)
    (folder / "defs.yaml").write_text(
        "type: crm_assets.components.CrmConnection\n"
        "attributes:\n"
        "  connection: salesforce\n"
        "  connector: salesforce\n"
        f"  url: {link.sandbox.url}\n"
        "  credentials: {client_id: SALESFORCE_CLIENT_ID, client_secret: SALESFORCE_CLIENT_SECRET}\n"
        "  objects: {Contact: {write: true, external_id: Crm_Assets_Row_Id__c}}\n"
    )
    monkeypatch.setenv("CRM_ASSETS_DEFS", str(tmp_path / "defs"))
    monkeypatch.setenv("CRM_ASSETS_DATABASE_URL", db.url)
    monkeypatch.setenv("CRM_ASSETS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SALESFORCE_URL", link.sandbox.url)
    monkeypatch.setattr(working, "quiet", lambda: None)
    return lambda: check.account("salesforce")


def test_the_command(
    as_command: Callable[[], int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert as_command() == 0
    shown = capsys.readouterr().out
    assert "ok    Contact: " in shown and "daily_calls" in shown and "of 24,000 used" in shown
    with pytest.raises(ConfigurationError, match="no connection 'hubspot'"):
        check.account("hubspot")
    monkeypatch.setenv("SALESFORCE_CLIENT_SECRET", "guess")
    with pytest.raises(ConfigurationError, match="SALESFORCE_CLIENT_SECRET"):
        as_command()
