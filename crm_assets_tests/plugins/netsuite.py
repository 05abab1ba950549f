"""A NetSuite sandbox linked with a database, as a process of the product would use them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from crm_assets.connections import ConnectionSpec, ObjectSpec
from crm_assets.store.database import Database
from crm_assets_tests.plugins.linked import Link
from crm_assets_tests.plugins.sandbox import MakeSandbox

CREDENTIALS = {
    "client_id": "NETSUITE_CLIENT_ID",
    "certificate_id": "NETSUITE_CERTIFICATE_ID",
    "private_key": "NETSUITE_PRIVATE_KEY",
    "webhook_secret": "NETSUITE_WEBHOOK_SECRET",
}
ROW_ID = "externalId"
READ_ONLY = ("item", "subsidiary", "currency")

MakeNetsuite = Callable[..., Link]


def environment(data_dir: Path) -> dict[str, str]:
    """The variables of the credentials, for a sandbox with this data folder."""
    return dict.fromkeys(CREDENTIALS.values(), "sandbox") | {"NETSUITE_PRIVATE_KEY": str(data_dir / "netsuite-key.pem")}


@pytest.fixture
def make_netsuite(
    db: Database, home: Path, make_sandbox: MakeSandbox, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeNetsuite]:
    """Links a new sandbox: ``make_netsuite("customer", "salesOrder", settings={"customer": {…}}, rows=…)``."""
    links: list[Link] = []

    def make(*objects: str, settings: Mapping[str, Mapping[str, Any]] | None = None, **sandbox: Any) -> Link:
        running = make_sandbox(connection="netsuite", **{"rows": 60, **sandbox})
        for variable, value in environment(running.data_dir).items():
            monkeypatch.setenv(variable, value)
        spec = ConnectionSpec(
            connection="netsuite",
            connector="netsuite",
            url=running.url,
            credentials=CREDENTIALS,
            call_timeout_seconds=5,
            longest_call_seconds=1,
            objects={
                name: ObjectSpec(
                    **{
                        "write": name not in READ_ONLY,
                        "external_id": None if name in READ_ONLY or "_" in name else ROW_ID,
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
