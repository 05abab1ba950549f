"""A look at an account that changes nothing: what is configured, against what the CRM lets us do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from crm_assets.connections import ConnectionSpec, ObjectSpec, unknown_object
from crm_assets.connectors.base import Connector, Inspecting
from crm_assets.core.errors import ObjectUnavailable, RejectedError
from crm_assets.core.model import Object
from crm_assets.core.readiness import Finding, Need, Standing, Wanted, findings


def look(connector: Connector, spec: ConnectionSpec) -> Iterator[Finding]:
    """Findings about each object, then about the account; those to be fixed say how, in the CRM's own words.

    ConfigurationError if the credentials are not good for anything.
    """
    for finding in _findings(connector, spec):
        if finding.need is not None and isinstance(connector, Inspecting):
            finding = replace(finding, remedy=connector.menu(finding.need, finding.about))
        yield finding


def _findings(connector: Connector, spec: ConnectionSpec) -> Iterator[Finding]:
    described: list[Object] = []
    for name, choice in spec.objects.items():
        try:
            obj = connector.describe(name)
        except ObjectUnavailable as error:
            yield _unavailable(connector, spec, name, error)
            continue
        described.append(obj)
        chosen = None if choice.fields == "*" else tuple(choice.fields)
        yield from findings(Wanted(name, choice.write, choice.external_id, chosen), obj)
        yield from _counted(connector, obj, choice)
    if isinstance(connector, Inspecting):
        written = frozenset(name for name, choice in spec.objects.items() if choice.write)
        yield from connector.inspect(described, written)


def _unavailable(connector: Connector, spec: ConnectionSpec, name: str, error: ObjectUnavailable) -> Finding:
    known = connector.object_names()
    if name in known:
        return Finding(Standing.FIX, name, str(error), need=Need.READ)
    return Finding(Standing.FIX, name, str(error), unknown_object(spec, name, known))


def _counted(connector: Connector, obj: Object, choice: ObjectSpec) -> Iterator[Finding]:
    """Whether records can be read, and ``where`` is understood. Records within others have no cheap count."""
    if obj.parent is not None:
        return
    try:
        count = connector.count(replace(obj, where=choice.where))
    except ObjectUnavailable as error:
        yield Finding(Standing.FIX, obj.name, f"its records may not be read: {error}", need=Need.READ)
    except RejectedError as error:
        remedy = "correct where in defs.yaml" if choice.where else ""
        yield Finding(Standing.FIX, obj.name, f"its records cannot be counted: {error}", remedy)
    else:
        within = " within its where" if choice.where else ""
        yield Finding(Standing.OK, obj.name, f"{count:,} records{within}")
