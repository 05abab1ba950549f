"""What the vendor works out by itself when a record is written."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

from .kinds import CONTACTS, DEALS, LINE_ITEMS, TICKETS, Kind
from .schema import Schema
from .store import Props

STAGES = {"deals": ("pipeline", "dealstage"), "tickets": ("hs_pipeline", "hs_pipeline_stage")}


def defaults(kind: Kind, values: Props) -> Props:
    """What a new record gets unasked."""
    if kind is CONTACTS:
        return {
            "lifecyclestage": "lead",
            "hs_is_contact": "true",
            "hs_is_unworked": "true",
            "hs_marketable_status": "false",
            "hs_pipeline": "contacts-lifecycle-pipeline",
        }
    if kind is DEALS:
        return {"pipeline": "default"}
    return {"hs_pipeline": "0"} if kind is TICKETS else {}


def calculate(schema: Schema, kind: Kind, props: Props) -> None:
    """Sets the calculated properties of a record, and takes away those that have no value."""
    for name, value in _calculated(schema, kind, props).items():
        if value:
            props[name] = value
        else:
            props.pop(name, None)


def _calculated(schema: Schema, kind: Kind, props: Props) -> Props:
    """By name; an empty text for no value."""
    if kind is CONTACTS:
        return {"hs_email_domain": props.get("email", "").partition("@")[2], "hs_all_contact_vids": _vids(props)}
    if kind is DEALS:
        stage = schema.stage("deals", props.get("pipeline"), props.get("dealstage"))
        facts = stage["metadata"] if stage else {}
        probability = facts.get("probability", "")
        closed = facts.get("isClosed", "")
        won = str(closed == "true" and probability in ("1", "1.0")).lower() if closed else ""
        return {"hs_is_closed": closed, "hs_is_closed_won": won, "hs_deal_stage_probability": probability}
    if kind is LINE_ITEMS:
        try:
            amount = Decimal(props.get("price") or "") * Decimal(props.get("quantity") or "1")
        except InvalidOperation:
            return {"amount": ""}
        return {"amount": f"{amount.normalize():f}"}
    return {}


def _vids(props: Props) -> str:
    ids = [*props.get("hs_merged_object_ids", "").split(";"), props.get("hs_object_id", "")]
    return ";".join(one for one in ids if one)


def merge_contacts(props: Props, winner: Props, loser: Props, gone: Sequence[str], at_ms: int) -> None:
    """What a contact that was merged knows of its former selves."""
    props["hs_all_contact_vids"] = _vids(props)
    props["hs_calculated_merged_vids"] = ";".join(f"{key}:{at_ms}" for key in gone)
    other = loser.get("email")
    if other and other != winner.get("email") and "email" in winner:
        known = [one for one in winner.get("hs_additional_emails", "").split(";") if one]
        props["hs_additional_emails"] = ";".join(dict.fromkeys([*known, other]))
