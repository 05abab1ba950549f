"""HubSpot's API as another app of the account would use it: for what the control API has no verb for."""

from __future__ import annotations

from typing import Any

import httpx

from crm_assets_tests.plugins.sandbox import Sandbox


def call(sandbox: Sandbox, method: str, path: str, body: Any = None) -> Any:
    """One call; raises httpx.HTTPStatusError on a refusal."""
    headers = {"Authorization": "Bearer sandbox"}
    reply = httpx.request(method, f"{sandbox.url}{path}", json=body, headers=headers, timeout=30, trust_env=False)
    reply.raise_for_status()
    return reply.json() if reply.content else None


def associate(sandbox: Sandbox, start: str, one: str, end: str, other: str) -> None:
    call(sandbox, "PUT", f"/crm/v4/objects/{start}/{one}/associations/default/{end}/{other}")


def label(sandbox: Sandbox, start: str, one: str, end: str, other: str, category: str, number: int) -> None:
    spec = [{"associationCategory": category, "associationTypeId": number}]
    call(sandbox, "PUT", f"/crm/v4/objects/{start}/{one}/associations/{end}/{other}", spec)


def part(sandbox: Sandbox, start: str, one: str, end: str, other: str) -> None:
    call(sandbox, "DELETE", f"/crm/v4/objects/{start}/{one}/associations/{end}/{other}")


def pairs(sandbox: Sandbox, start: str, one: str, end: str) -> set[tuple[str, str]]:
    """(other id, number of the type) of everything that a record is associated with."""
    found = call(sandbox, "GET", f"/crm/v4/objects/{start}/{one}/associations/{end}?limit=500")
    return {(str(r["toObjectId"]), str(t["typeId"])) for r in found["results"] for t in r["associationTypes"]}
