"""The seed files, when they lie beside the project: every record, every field, as in the CRM."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from crm_assets.core.model import FieldType, Object
from crm_assets_tests.plugins import hubspot_api
from crm_assets_tests.plugins.hubspot import MakeHubspot
from crm_assets_tests.plugins.linked import Link, MakeLink
from crm_assets_tests.plugins.netsuite import MakeNetsuite

_SEED = Path(os.environ.get("SEED_DIR", Path(__file__).parents[3] / "shared" / "data" / "seed"))
_COUNTS = {
    "salesforce": {"User": 41, "Account": 85, "Product2": 7, "Opportunity": 8_800, "Lead": 9_240, "Contact": 2_757},
    "hubspot": {"companies": 85, "contacts": 2_243, "deals": 2_200},
    "netsuite": {"customer": 85, "salesOrder": 4_238},
}
"""Records by connection and object, as the files have them."""


def _canonical(kind: FieldType, value: Any) -> str:
    """One spelling of a value, whichever side it comes from."""
    if value is None or value == "":
        return "∅"
    if kind is FieldType.BOOLEAN:
        return str(value in (True, "true")).lower()
    if kind in (FieldType.NUMBER, FieldType.INTEGER):
        return f"{Decimal(str(value)).normalize():f}"
    if kind is FieldType.TIMESTAMP:
        at = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return at.astimezone(UTC).isoformat()
    if kind is FieldType.DATE:
        return (value if isinstance(value, date) else date.fromisoformat(value)).isoformat()
    return str(value)


def _digest(obj: Object, record: dict[str, Any], by: str) -> str:
    parts = [f"{f.name}={_canonical(f.type, record[getattr(f, by)])}" for f in obj.fields]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _mirror(link: Link, obj: Object) -> dict[str, str]:
    columns = ", ".join(f'"{f.column}"' for f in obj.fields)
    found = link.rows(f"SELECT id, {columns} FROM {link.connection.name}.{obj.table}")
    names = [f.column for f in obj.fields]
    return {row[0]: _digest(obj, dict(zip(names, row[1:], strict=True)), "column") for row in found}


def _truth(link: Link, obj: Object) -> dict[str, str]:
    return {key: _digest(obj, fields, "name") for key, fields in link.sandbox.alive(obj.name).items()}


@pytest.mark.skipif(not _SEED.is_dir(), reason="no seed files beside the project (SEED_DIR)")
def test_every_seed_record_of_three_crms_arrives_with_every_field(
    make_link: MakeLink, make_hubspot: MakeHubspot, make_netsuite: MakeNetsuite
) -> None:
    """One database, three connections, read at the same time."""
    links = (
        make_link(seed_dir=_SEED),
        make_hubspot("contacts", "companies", "deals", "contacts_to_companies", seed_dir=_SEED),
        make_netsuite("customer", "salesOrder", "salesOrder_item", seed_dir=_SEED),
    )
    with ThreadPoolExecutor(len(links)) as pool:
        list(pool.map(_everything, links))
    _salesforce(links[0])
    _hubspot(links[1])
    _netsuite(links[2])


def _everything(link: Link) -> None:
    """Sync all objects of a connection; each with a count below has every record with every field."""
    counts = _COUNTS[link.connection.name]
    for obj in link.connection.objects.values():
        report = link.sync(obj.table)
        assert not report.partial and report.set_aside == 0
        if obj.name in counts:
            truth = _truth(link, obj)
            assert len(truth) == counts[obj.name]
            assert _mirror(link, obj) == truth


def _salesforce(link: Link) -> None:
    """The originals' typing errors are data, not ours to mend."""
    assert link.value("SELECT count(*) FROM salesforce.account WHERE industry = 'technolgy'") > 0
    assert link.value("SELECT count(*) FROM salesforce.opportunity WHERE product_name_c = 'GTXPro'") > 0


def _hubspot(link: Link) -> None:
    assert link.value("SELECT count(*) FROM hubspot.companies WHERE industry ILIKE 'technolgy'") > 0
    # A seeded contact has one company at most; a sample is asked for one by one.
    assert link.value("SELECT count(DISTINCT from_id) FROM hubspot.contacts_to_companies") > 2_000
    for (contact,) in link.rows("SELECT id FROM hubspot.contacts ORDER BY id LIMIT 20"):
        found = set(link.rows("SELECT to_id, type FROM hubspot.contacts_to_companies WHERE from_id = %s", contact))
        assert found == hubspot_api.pairs(link.sandbox, "contacts", contact, "companies")


def _netsuite(link: Link) -> None:
    wanted = {
        (f"{key}:{line['line']}", line["item"], Decimal(str(line["amount"])))
        for key, fields in link.sandbox.alive("salesOrder").items()
        for line in fields["item"]
    }
    assert set(link.rows("SELECT id, item, amount FROM netsuite.sales_order_item")) == wanted


def test_every_generated_record_arrives_with_every_field(make_link: MakeLink) -> None:
    link = make_link(rows=1_500)
    for obj in link.connection.objects.values():
        link.sync(obj.table)
        assert _mirror(link, obj) == _truth(link, obj)
