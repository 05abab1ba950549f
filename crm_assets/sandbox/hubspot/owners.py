"""Owners: the people of the account, ``/crm/v3/owners``."""

from __future__ import annotations

import sqlite3
from typing import Any

import orjson

from crm_assets.sandbox.http import Reply
from crm_assets.sandbox.routes import Routes

from . import clock
from .errors import PORTAL, invalid, not_found
from .records import number
from .store import Store
from .wire import Call, json_reply, limit, page

FIELDS = ("email", "firstName", "lastName", "userId", "type")
_PAGE = 500


def put(db: sqlite3.Connection, owner_id: int, fields: dict[str, Any], created: int, updated: int) -> None:
    """Adds an owner, or changes a known one."""
    body = {"email": "", "firstName": "", "lastName": "", "userId": owner_id + 100_000, "type": "PERSON", "teams": []}
    body |= fields | {"createdAt": clock.iso(created)}
    db.execute(
        "INSERT INTO owner (id, body, updated) VALUES (?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET body = excluded.body, updated = excluded.updated",
        (owner_id, orjson.dumps(body), updated),
    )


def shown(owner_id: int, body: bytes, updated: int, archived: int | None) -> dict[str, Any]:
    """As the API prints it. An owner who left has no user any more."""
    fields = orjson.loads(body)
    made: dict[str, Any] = {
        "id": str(owner_id),
        **fields,
        "userIdIncludingInactive": fields["userId"],
        "archived": archived is not None,
        "updatedAt": clock.iso(updated),
    }
    if archived is not None:
        del made["userId"]
    return made


class Owners:
    """Lists owners; they are made and changed by the control API alone."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def routes(self, routes: Routes) -> None:
        routes.add("GET", "/crm/v3/owners", "owners", self.listing)
        routes.add("GET", "/crm/v3/owners/{key}", "owners", self.get)
        routes.add("GET", "/account-info/v3/details", "account", self.account)

    def listing(self, call: Call) -> Reply:
        size, after = limit(call.one("limit"), 100, _PAGE), call.one("after") or "0"
        if not after.isdigit():
            raise invalid(f"after: {after} is no place in the list")
        which = "archived NOTNULL" if call.flag("archived") else "archived IS NULL"
        rows = self._store.reader.execute(
            f"SELECT id, body, updated, archived FROM owner WHERE id >= ? AND {which} ORDER BY id", (int(after),)
        ).fetchall()
        found = [shown(*row) for row in rows]
        if email := call.one("email"):
            found = [one for one in found if one["email"].lower() == email.lower()]
        return page(found[:size], found[size]["id"] if len(found) > size else None, call.request)

    def get(self, call: Call, key: str) -> Reply:
        wanted, archived = number(key), call.flag("archived")
        for row in self._store.reader.execute("SELECT id, body, updated, archived FROM owner"):
            by_user = call.one("idProperty") == "userId"
            known = orjson.loads(row[1])["userId"] if by_user else row[0]
            if known == wanted and (row[3] is not None) is archived:
                return json_reply(shown(*row))
        raise not_found()

    def account(self, call: Call) -> Reply:
        return json_reply(
            {
                "portalId": PORTAL,
                "accountType": "STANDARD",
                "timeZone": "UTC",
                "companyCurrency": "USD",
                "additionalCurrencies": [],
                "utcOffset": "+00:00",
                "utcOffsetMilliseconds": 0,
                "uiDomain": "app.hubspot.com",
                "dataHostingLocation": "na1",
            }
        )
