"""jsforce, unmodified, writes a thousand contacts into the sandbox and reads them back, over REST and over Bulk 2.0."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crm_assets_tests.plugins.sandbox import Sandbox

NEW = 1000
KEY = "Crm_Assets_Row_Id__c"
FOLDER = Path(__file__).parent / "js"
VARIABLE = "JSFORCE_NODE_MODULES"


@pytest.fixture(scope="module")
def modules() -> Path:
    """Where the client is installed; without it, or without Node, the tests say how to have them run."""
    found = Path(os.environ.get(VARIABLE) or FOLDER / "node_modules")
    if shutil.which("node") is None:
        pytest.skip("jsforce is not tested: there is no `node` in PATH; install Node 20 or newer")
    if not (found / "jsforce").is_dir():
        pytest.skip(
            f"jsforce is not tested: it is not in {found}; run `npm install --no-package-lock --prefix "
            f"{FOLDER.relative_to(Path(__file__).parents[2])}`, or name a folder that has it in {VARIABLE}"
        )
    return found.resolve()


@pytest.fixture(scope="module")
def org(modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = Sandbox(tmp_path_factory.mktemp("jsforce") / "data", rows=10)
    yield sandbox
    sandbox.kill()


@pytest.fixture(scope="module")
def report(org: Sandbox, modules: Path) -> dict[str, Any]:
    """What the client found; it runs once for all tests."""
    environment = {**os.environ, "NODE_PATH": str(modules), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        ["node", str(FOLDER / "jsforce.cjs"), org.url],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_thousand_over_rest(report: dict[str, Any]) -> None:
    rest = report["rest"]
    assert (rest["made"], rest["changed"], rest["upserted"], rest["created_by_upsert"]) == (NEW, NEW, NEW, 0)
    assert rest["paged"] == NEW
    assert {(last, first, key) for _, last, first, key in rest["found"]} == {
        (f"Js {n}", None, f"js-{n}") for n in range(NEW)
    }
    assert (rest["gone"], rest["left"]) == (200, NEW - 200)


def test_a_thousand_over_bulk(report: dict[str, Any]) -> None:
    bulk = report["bulk"]
    assert (bulk["made"], bulk["failed"]) == (NEW, 0)
    assert {(last, first) for _, last, first in bulk["found"]} == {(f'Bulk "{n}", Ünï', "a\nb") for n in range(NEW)}


def test_the_org_has_what_the_client_was_told(report: dict[str, Any], org: Sandbox) -> None:
    truth = org.alive("Contact")
    left = {key: row for key, row in truth.items() if (row[KEY] or "").startswith("js-")}
    shown = {key: (last, ext) for key, last, _, ext in report["rest"]["found"]}
    assert len(left) == NEW - 200 and all(shown[key] == (row["LastName"], row[KEY]) for key, row in left.items())
    assert {row["Title"] for row in left.values()} == {"Dr"}
    assert {key for key, *_ in report["bulk"]["found"]} <= truth.keys()


def test_describe_limits_and_refusals(report: dict[str, Any]) -> None:
    assert {"Account", "Contact", "Opportunity", "User"} <= set(report["objects"])
    assert report["key"]["externalId"] and report["key"]["unique"]
    assert report["usage"]["limit"] == 24_000 and 0 < report["usage"]["used"] < 100
    assert report["refused"] == {
        "secret": "invalid_client",
        "field": "INVALID_FIELD",
        "record": "REQUIRED_FIELD_MISSING",
    }
