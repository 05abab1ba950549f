"""A HubSpot sandbox linked with a database, as a process of the product would use them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from crm_assets.connections import ConnectionSpec, ObjectSpec
from crm_assets.store.database import Database
from crm_assets_tests.plugins.linked import Link
from crm_assets_tests.plugins.sandbox import MakeSandbox

TOKEN = {"token": "HUBSPOT_TOKEN", "webhook_secret": "HUBSPOT_CLIENT_SECRET"}
ROW_ID = "crm_assets_row_id"
READ_ONLY = ("owners", "pipelines", "pipeline_stages")
QUICK: Mapping[str, str | int | float | bool] = {"index_lag_seconds": 0, "calls_10s": 100_000}
"""The sandbox's index is as quick as its clock; what a lag does is tested where it is set."""

MakeHubspot = Callable[..., Link]


@pytest.fixture
def make_hubspot(
    db: Database, home: Path, make_sandbox: MakeSandbox, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeHubspot]:
    """Links a new sandbox: ``make_hubspot("contacts", "contacts_to_companies", settings={"contacts": {…}}, rows=…)``.

    Its limits are lifted, but for those that ``limits`` names.
    """
    links: list[Link] = []

    def make(
        *objects: str,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        options: Mapping[str, Any] | None = None,
        limits: Mapping[str, int] | None = None,
        **sandbox: Any,
    ) -> Link:
        for variable in TOKEN.values():
            monkeypatch.setenv(variable, "sandbox")
        running = make_sandbox(connection="hubspot", **{"rows": 30, **sandbox})
        running.limits(**{"calls_10s": 1_000_000, "search_1s": 1_000_000, **(limits or {})})
        spec = ConnectionSpec(
            connection="hubspot",
            connector="hubspot",
            url=running.url,
            credentials=TOKEN,
            options={**QUICK, **(options or {})},
            call_timeout_seconds=5,
            longest_call_seconds=1,
            objects={
                name: ObjectSpec(
                    **{
                        "write": name not in READ_ONLY,
                        "external_id": None if name in READ_ONLY or "_to_" in name else ROW_ID,
                        **(settings or {}).get(name, {}),
                    }
                )
                for name in objects
            },
        )
        links.append(Link(running, db, home, spec))
        return links[-1]

    yield make
    for link in links:
        link.connection.close()
