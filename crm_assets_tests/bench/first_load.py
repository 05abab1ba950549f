"""The first load of an object: everything the CRM has, into an empty table."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg

from crm_assets_tests.bench import engine, limit
from crm_assets_tests.bench.measure import Setting
from crm_assets_tests.bench.server import ROOT

_NEVER = 10**12


def _engine(vendor: str, bulk: bool) -> Callable[[Setting], float]:
    def load(setting: Setting) -> float:
        from crm_assets.mirror.sync import sync

        options = {"bulk_threshold": 0 if bulk else _NEVER} if vendor == "salesforce" else {}
        with engine.opened(setting, vendor, **options) as (db, connector, obj):
            started = time.perf_counter()
            report = sync(db, engine.home(setting), connector, obj)
            seconds = time.perf_counter() - started
        assert report.inserted == setting.rows and not report.partial, report
        return seconds

    return load


def _limit(pages: Callable[[str], Iterator[Any]]) -> Callable[[Setting], float]:
    def load(setting: Setting) -> float:
        started = time.perf_counter()
        limit.copy(setting.database, pages(setting.server))
        seconds = time.perf_counter() - started
        _check(setting, "public.contact")
        return seconds

    return load


def _check(setting: Setting, table: str) -> None:
    with psycopg.connect(setting.database) as conn:
        row = conn.execute(f"SELECT count(*) FROM {table}").fetchone()  # type: ignore[arg-type]
    assert row is not None and row[0] == setting.rows, f"{table} has {row} of {setting.rows} records"


def _dlt(pages: Callable[[str], Iterator[list[dict[str, Any]]]], key: str) -> Callable[[Setting], float]:
    """As its documentation has it: dicts, defaults, merge on the key."""

    def load(setting: Setting) -> float:
        import dlt
        from dlt.destinations import postgres

        started = time.perf_counter()
        pipeline = dlt.pipeline(
            "bench", pipelines_dir=setting.home, destination=postgres(credentials=setting.database), dataset_name="peer"
        )
        pipeline.run(pages(setting.server), table_name="contact", write_disposition="merge", primary_key=key)
        seconds = time.perf_counter() - started
        _check(setting, "peer.contact")
        return seconds

    return load


def _bulk_dicts(url: str) -> Iterator[list[dict[str, Any]]]:
    wire, locator = limit.Wire(url), "0"
    while locator != "null":
        body, headers = wire.get(f"{ROOT}/jobs/query/750/results?locator={locator}")
        locator = headers["Sforce-Locator"]
        yield list(csv.DictReader(io.StringIO(body.decode())))


def _rest_dicts(url: str) -> Iterator[list[dict[str, Any]]]:
    import requests

    with requests.Session() as session:
        session.trust_env = False
        target = f"{ROOT}/query/all-0"
        while target:
            body = session.get(url + target).json()
            yield [{k: v for k, v in record.items() if k != "attributes"} for record in body["records"]]
            target = body.get("nextRecordsUrl", "")


def _hubspot_dicts(url: str) -> Iterator[list[dict[str, Any]]]:
    import requests

    with requests.Session() as session:
        session.trust_env = False
        after: str | None = "0"
        while after:
            body = session.get(f"{url}/crm/v3/objects/contacts?limit=100&after={after}").json()
            yield [{"id": record["id"], **record["properties"]} for record in body["results"]]
            after = body.get("paging", {}).get("next", {}).get("after")


def _pandas(bulk: bool) -> Callable[[Setting], float]:
    """simple-salesforce for the reading, pandas.to_sql for the table."""

    def load(setting: Setting) -> float:
        import pandas as pd
        import requests
        from simple_salesforce import Salesforce
        from sqlalchemy import create_engine

        from crm_assets_tests.conformance.conftest import ToSandbox

        started = time.perf_counter()
        engine_ = create_engine(setting.database.replace("postgresql://", "postgresql+psycopg2://", 1))
        with requests.Session() as session:
            session.trust_env = False
            session.mount("https://", ToSandbox(setting.server))
            client = Salesforce(instance="bench", session_id="bench", session=session, version="67.0")
            if bulk:
                pages = client.bulk2.Contact.query("SELECT FIELDS(ALL) FROM Contact")
                frames = (pd.read_csv(io.StringIO(page), dtype=str, keep_default_na=False) for page in pages)
            else:
                found = client.query_all_iter("SELECT FIELDS(ALL) FROM Contact")
                frames = (frame.drop(columns="attributes") for frame in [pd.DataFrame(list(found))])
            for frame in frames:
                frame.to_sql("contact", engine_, schema="public", if_exists="append", index=False)
        with engine_.begin() as conn:
            conn.exec_driver_sql('CREATE UNIQUE INDEX ON public.contact ("Id")')
        seconds = time.perf_counter() - started
        engine_.dispose()
        _check(setting, "public.contact")
        return seconds

    return load


WORKS: dict[str, Callable[[Setting], float]] = {
    "first_load_bulk/crm_assets": _engine("salesforce", bulk=True),
    "first_load_bulk/limit": _limit(limit.bulk),
    "first_load_bulk/dlt": _dlt(_bulk_dicts, "Id"),
    "first_load_bulk/simple_salesforce_pandas": _pandas(bulk=True),
    "first_load_rest/crm_assets": _engine("salesforce", bulk=False),
    "first_load_rest/limit": _limit(limit.rest),
    "first_load_rest/dlt": _dlt(_rest_dicts, "Id"),
    "first_load_rest/simple_salesforce_pandas": _pandas(bulk=False),
    "first_load_hubspot/crm_assets": _engine("hubspot", bulk=False),
    "first_load_hubspot/limit": _limit(limit.hubspot),
    "first_load_hubspot/dlt": _dlt(_hubspot_dicts, "id"),
}
