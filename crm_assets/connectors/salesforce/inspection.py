"""What an org is asked before anything is synced: its limits, its stream, and rights that describe does not show.

Sources: REST API, "Limits"; Tooling API, "PlatformEventChannelMember" (needs View Setup and Configuration); Change Data
Capture Developer Guide, "Select Objects for Change Notifications". The menus are those of Setup, Lightning Experience.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from crm_assets.connectors.salesforce.client import Client
from crm_assets.core.errors import CrmAssetsError, RejectedError
from crm_assets.core.model import Object
from crm_assets.core.readiness import Finding, Need, Standing

_CHANNEL = "ChangeEvents"
_ALL = f"/data/{_CHANNEL}"

_SETTINGS = "Setup > Permission Sets > (yours) > Object Settings > {name}"
_MENUS: Mapping[Need, str] = {
    Need.READ: f"{_SETTINGS}: Read and View All Records",
    Need.WRITE: f"{_SETTINGS}: Create, Edit and Delete",
    Need.FIELDS: f"{_SETTINGS} > Field Permissions: Read and Edit Access",
    Need.EXTERNAL_ID: "Setup > Object Manager > {name} > Fields & Relationships > New: Text, length 36, Unique, "
    "External ID",
}


def menu(need: Need, name: str) -> str:
    return _MENUS[need].format(name=name)


def inspect(
    client: Client, topics: Sequence[str], objects: Sequence[Object], written: Collection[str]
) -> Iterator[Finding]:
    yield from _jobs(client)
    for obj in objects:
        if obj.name in written:
            yield from _locked(obj)
    if not topics:
        yield Finding(
            Standing.NOTE,
            "push",
            "no stream is followed: changes arrive with webhooks and the schedule",
            f"choose the objects in Setup > Change Data Capture and set options.pubsub_topics to {_ALL}",
        )
        return
    yield from _heard(client, topics)
    yield from _selected(client, topics, objects)


def _jobs(client: Client) -> Iterator[Finding]:
    """What first loads live on. The daily calls are told with every reply."""
    body = client.json(client.get(f"{client.root}/limits", "limits", "limits"))
    jobs = body.get("DailyBulkV2QueryJobs")
    if jobs is not None:
        standing = Standing.OK if int(jobs["Remaining"]) else Standing.NOTE
        said = f"{int(jobs['Remaining']):,} of {int(jobs['Max']):,} bulk queries of 24 hours are left"
        yield Finding(standing, "limits", said)


def _locked(obj: Object) -> Iterator[Finding]:
    """Fields of the org's own that the user may see and not set: mostly a permission that was forgotten."""
    names = [f.name for f in obj.fields if f.name.endswith("__c") and not f.writable and not f.calculated]
    if names:
        said = f"custom fields that can only be read: {', '.join(names)}"
        yield Finding(Standing.NOTE, obj.name, said, need=Need.FIELDS)


def _heard(client: Client, topics: Sequence[str]) -> Iterator[Finding]:
    """Whether each stream can be followed: by following it until it stands."""
    # Only here: gRPC and Avro are of no use to those who follow nothing.
    from crm_assets.connectors.salesforce import stream

    for topic in topics:
        try:
            stream.reach(client, topic)
        except CrmAssetsError as error:
            said = f"the stream {topic} cannot be followed: {error}"
            remedy = "let this machine reach options.pubsub_endpoint, and give the user API Enabled"
            yield Finding(Standing.FIX, "push", said, remedy)
        else:
            yield Finding(Standing.OK, "push", f"the stream {topic} can be followed")


def _selected(client: Client, topics: Sequence[str], objects: Sequence[Object]) -> Iterator[Finding]:
    """Objects of which no stream tells, because nobody chose them."""
    query = "SELECT EventChannel, SelectedEntity FROM PlatformEventChannelMember"
    try:
        reply = client.get(f"{client.root}/tooling/query", "query", "Change Data Capture", params={"q": query})
    except RejectedError:
        yield Finding(
            Standing.NOTE,
            "push",
            "which objects are chosen in Change Data Capture cannot be seen",
            "Setup > Permission Sets > (yours) > System Permissions: View Setup and Configuration; or look yourself at "
            "Setup > Change Data Capture",
        )
        return
    chosen = {(one["EventChannel"], one["SelectedEntity"]) for one in client.json(reply)["records"]}
    for obj in objects:
        event = _event(obj.name)
        channels = {channel for topic in topics if (channel := _channel(topic, event))}
        if not channels:
            said = "none of options.pubsub_topics tells of it: the schedule reads it"
            yield Finding(Standing.FIX, obj.name, said, f"add /data/{event} there, or use {_ALL}")
        elif not any((channel, event) in chosen for channel in channels):
            said = "not chosen in Change Data Capture: the stream tells nothing of it, and the schedule reads it"
            yield Finding(Standing.FIX, obj.name, said, f"Setup > Change Data Capture: choose {obj.name}")


def _event(name: str) -> str:
    """``Account`` → ``AccountChangeEvent``, ``Foo__c`` → ``Foo__ChangeEvent``."""
    return f"{name.removesuffix('c') if name.endswith('__c') else name}ChangeEvent"


def _channel(topic: str, event: str) -> str | None:
    """The channel for which an event has to be chosen so that the topic tells of it; None if it never does."""
    name = topic.removeprefix("/data/")
    if name.endswith("__chn"):
        return name
    return _CHANNEL if name in (_CHANNEL, event) else None
