"""Readiness: whether an account lets us do what is configured. Values in, findings out.

A describe shows what the account's user may do with each object and field; what it does not show, a connector asks
its vendor (``connectors.base.Inspecting``).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from crm_assets.core.model import Field, Object

_SHOWN = 5
"""Names of fields in one sentence."""
ROW_ID_LENGTH = 36


class Standing(StrEnum):
    OK = "ok"
    NOTE = "note"
    """Works, and a person may want to know."""
    FIX = "fix"
    """Something that is configured will not work before a person changes it."""


class Need(StrEnum):
    """What an admin may have to do in the CRM; a connector says where (``Inspecting.menu``)."""

    READ = "read"
    WRITE = "write"
    FIELDS = "fields"
    EXTERNAL_ID = "external_id"


@dataclass(frozen=True, slots=True)
class Finding:
    """``about`` is the API name of an object, or what else it concerns (``limits``, ``push``); ``need`` asks for the
    vendor's words of the remedy where ``remedy`` does not say it."""

    standing: Standing
    about: str
    said: str
    remedy: str = ""
    need: Need | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What defs.yaml asks of an object. ``fields`` None: all there are."""

    name: str
    write: bool
    external_id: str | None
    fields: tuple[str, ...] | None = None


def findings(wanted: Wanted, obj: Object) -> Iterator[Finding]:
    """What the describe of an object says about what is wanted of it; ``obj`` has all its fields."""
    yield from _absent(wanted, obj)
    chosen = [f for f in obj.fields if wanted.fields is None or f.name in wanted.fields]
    if not wanted.write:
        yield Finding(Standing.OK, wanted.name, f"{len(chosen)} fields can be read")
        return
    writable = [f for f in chosen if f.writable]
    yield Finding(Standing.OK, wanted.name, f"{len(chosen)} fields can be read, {len(writable)} written")
    yield from _denied(wanted, obj)
    fixed = [f for f in chosen if wanted.fields is not None and not f.writable and not f.calculated]
    if fixed:
        yield Finding(Standing.NOTE, wanted.name, f"read-only: {_some(fixed)}", need=Need.FIELDS)
    yield from _external_id(wanted, obj)


def _absent(wanted: Wanted, obj: Object) -> Iterator[Finding]:
    for name in wanted.fields or ():
        if name not in obj.by_name and name != obj.id_field:
            near = difflib.get_close_matches(name, obj.by_name, n=1)
            hint = f"did you mean {near[0]}?" if near else ""
            said = f"the account has no field {name}, or hides it"
            yield Finding(Standing.FIX, wanted.name, said, hint, None if hint else Need.FIELDS)


def _denied(wanted: Wanted, obj: Object) -> Iterator[Finding]:
    # Of records within others, which are made and taken away with them, only the making is told.
    operations = [("created", obj.createable), ("updated", obj.updateable or obj.parent is not None)]
    denied = [operation for operation, may in operations if not may]
    if denied:
        yield Finding(Standing.FIX, wanted.name, f"records may not be {' or '.join(denied)}", need=Need.WRITE)
    if not obj.deletable and obj.parent is None:
        yield Finding(Standing.NOTE, wanted.name, "records may not be deleted", need=Need.WRITE)


def _external_id(wanted: Wanted, obj: Object) -> Iterator[Finding]:
    if wanted.external_id is None:
        if obj.parent is None and obj.createable:
            said = "without external_id a create is sent at most once, and may stay `unknown`"
            yield Finding(Standing.NOTE, wanted.name, said, need=Need.EXTERNAL_ID)
        return
    fld = obj.by_name.get(wanted.external_id)
    if fld is None:
        said = f"the account has no field {wanted.external_id}, or hides it: nothing can be created"
        yield Finding(Standing.FIX, wanted.name, said, need=Need.EXTERNAL_ID)
    elif not (fld.unique and fld.external_id):
        said = f"{wanted.external_id} is no unique external id: a create that is sent twice could make two records"
        yield Finding(Standing.FIX, wanted.name, said, need=Need.EXTERNAL_ID)
    elif not fld.createable:
        yield Finding(Standing.FIX, wanted.name, f"{wanted.external_id} cannot be set", need=Need.FIELDS)
    elif fld.length is not None and fld.length < ROW_ID_LENGTH:
        said = f"{wanted.external_id} holds {fld.length} characters, and a row_id has {ROW_ID_LENGTH}"
        yield Finding(Standing.FIX, wanted.name, said, need=Need.EXTERNAL_ID)


def _some(fields: list[Field]) -> str:
    names = ", ".join(f.name for f in fields[:_SHOWN])
    return names if len(fields) <= _SHOWN else f"{names} and {len(fields) - _SHOWN} more"
