"""What an account is asked before anything is synced: which scopes the app has.

Sources: "Private apps" (information on a token), "OAuth tokens" (metadata of an access token), "Scopes". Which scope a
call needs stands in the reference of each API; where two are named, one of them is enough.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from crm_assets.connectors.hubspot.client import Client
from crm_assets.connectors.hubspot.kinds import DIRECTORY, KINDS, OWNERS, edge
from crm_assets.core.errors import RejectedError
from crm_assets.core.model import Object
from crm_assets.core.readiness import Finding, Need, Standing

_APP = "Settings > Integrations > Private Apps > (yours)"
_MENUS: Mapping[Need, str] = {
    Need.READ: f"{_APP} > Scopes: read of {{name}}",
    Need.WRITE: f"{_APP} > Scopes: write of {{name}}",
    Need.FIELDS: "Settings > Properties > {name} > (property): its type, and who may see it",
    Need.EXTERNAL_ID: "Settings > Properties > {name} > Create property: single-line text, Require unique values for "
    "this property",
}

_READ, _WRITE = "read", "write"
_PARTS = {"tickets": "tickets", "products": "e-commerce", "line_items": "e-commerce"}
"""Kinds with a scope of an older name beside the usual one, which covers reading and writing."""


def menu(need: Need, name: str) -> str:
    return _MENUS[need].format(name=name)


def inspect(client: Client, objects: Sequence[Object], written: Collection[str]) -> Iterator[Finding]:
    yield from _scopes(client, objects, written)
    yield Finding(
        Standing.NOTE,
        "push",
        "HubSpot does not tell over the API what a private app's webhooks are set to",
        f"{_APP} > Webhooks: the target URL ends in /webhooks/{client.config.name}; subscribe to creation, deletion, "
        "propertyChange, merge, restore and associationChange of what is synced, and to contact.privacyDeletion",
    )


def _scopes(client: Client, objects: Sequence[Object], written: Collection[str]) -> Iterator[Finding]:
    granted = _granted(client)
    if granted is None:
        said = "which scopes the token has cannot be seen; that it reads is proven, that it writes is not"
        yield Finding(Standing.NOTE, "scopes", said, f"{_APP} > Scopes: compare with docs/connectors/hubspot.md")
        return
    lacking = 0
    for obj in objects:
        for action in (_READ, _WRITE) if obj.name in written else (_READ,):
            for needed in needs(obj.name, action):
                if granted.isdisjoint(needed):
                    lacking += 1
                    said = f"the app lacks the scope {' or '.join(sorted(needed))}"
                    yield Finding(Standing.FIX, obj.name, said, need=Need(action))
    if not lacking:
        yield Finding(Standing.OK, "scopes", f"{len(granted)} scopes, all that is needed among them")


def _granted(client: Client) -> frozenset[str] | None:
    """The scopes of the token; None if HubSpot does not tell them, as of a service key."""
    try:
        if "token" in client.config.credentials:
            path = "/oauth/v2/private-apps/get/access-token-info"
            body = client.read(
                "POST", path, "token", "scopes of the token", json={"tokenKey": client.config.secret("token")}
            )
        else:
            body = client.read("GET", f"/oauth/v1/access-tokens/{client.token().text}", "token", "scopes of the token")
    except RejectedError:
        return None
    return frozenset(body["scopes"])


def needs(name: str, action: str) -> Iterator[frozenset[str]]:
    """Sets of scopes of each of which one is needed. Of pipelines none: they come with what moves through them."""
    if ends := edge(name):
        for end in ends:
            yield from needs(end, action)
    elif name == OWNERS:
        yield frozenset({"crm.objects.owners.read"})
    elif name in DIRECTORY:
        return
    elif name not in KINDS:
        yield frozenset({f"crm.objects.custom.{action}"})
    elif KINDS[name].timed:
        yield frozenset({f"crm.objects.contacts.{action}"})
        if name == "emails" and action == _READ:
            yield frozenset({"sales-email-read"})
    else:
        usual = f"crm.objects.{name}.{action}"
        yield frozenset({usual, _PARTS.get(name, usual)})
