"""The metadata resources: versions, the list of objects, describe, limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

from crm_assets.sandbox.http import Reply

from .errors import error
from .objects import SObject
from .records import Records
from .schema import Schema
from .wire import Call, Router

FIRST, LAST = 50, 67
_MASTER = "012000000000000AAA"
_SEASONS = {0: "Winter", 1: "Spring", 2: "Summer"}


def versions(prefix: str = "") -> list[dict[str, str]]:
    """The API versions spoken."""
    return [
        {
            "label": f"{_SEASONS[(number - 50 + 2) % 3]} '{number // 3 + 4 - (number % 3 == 0):02d}",
            "url": f"{prefix}/services/data/v{number}.0",
            "version": f"{number}.0",
        }
        for number in range(FIRST, LAST + 1)
    ]


def supported(version: str) -> bool:
    whole, _, rest = version.partition(".")
    return rest == "0" and whole.isdigit() and FIRST <= int(whole) <= LAST


def flags(kind: SObject, base: str) -> dict[str, Any]:
    """What the list of objects says of one."""
    url = f"{base}/sobjects/{kind.name}"
    return {
        "activateable": False,
        "createable": kind.writable,
        "custom": kind.name.endswith("__c"),
        "customSetting": False,
        "deletable": kind.deletable,
        "deprecatedAndHidden": False,
        "feedEnabled": False,
        "hasSubtypes": False,
        "isSubtype": False,
        "keyPrefix": kind.prefix,
        "label": kind.name,
        "labelPlural": f"{kind.name}s",
        "layoutable": True,
        "mergeable": kind.mergeable,
        "mruEnabled": True,
        "name": kind.name,
        "queryable": True,
        "replicateable": True,
        "retrieveable": True,
        "searchable": True,
        "triggerable": True,
        "undeletable": kind.deletable,
        "updateable": kind.writable,
        "urls": {"sobject": url, "describe": f"{url}/describe", "rowTemplate": f"{url}/{{ID}}"},
    }


def children(schema: Schema, kind: SObject) -> list[dict[str, Any]]:
    """The references from elsewhere to an object."""
    return [
        {
            "cascadeDelete": False,
            "childSObject": other.name,
            "deprecatedAndHidden": False,
            "field": field.name,
            "junctionIdListNames": [],
            "junctionReferenceTo": [],
            "relationshipName": f"{other.name}s" if field.createable else None,
            "restrictedDelete": False,
        }
        for other in schema.objects.values()
        for field in other.fields
        if kind.name in field.reference_to
    ]


class Describe:
    """The metadata resources."""

    def __init__(self, records: Records, used: Callable[[], tuple[int, int]]) -> None:
        self._records = records
        self._used = used

    def routes(self, router: Router) -> None:
        router.add("GET", "", "resources", self.resources)
        router.add("GET", "sobjects", "describe", self.list)
        router.add("GET", "sobjects/{name}", "describe", self.basic)
        router.add("GET", "sobjects/{name}/describe", "describe", self.describe)
        router.add("GET", "limits", "limits", self.limits)

    def resources(self, call: Call) -> Reply:
        names = ("sobjects", "query", "queryAll", "composite", "limits", "jobs")
        return Reply(body={name: f"{call.base}/{name}" for name in names})

    def list(self, call: Call) -> Reply:
        schema = self._records.schema
        objects = [flags(one, call.base) for one in schema.objects.values() if one.name not in schema.hidden]
        return Reply(body={"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": objects})

    def basic(self, call: Call, name: str) -> Reply:
        kind = self._records.object(name)
        return Reply(body={"objectDescribe": flags(kind, call.base), "recentItems": []})

    def describe(self, call: Call, name: str) -> Reply:
        schema = self._records.schema
        kind = self._records.object(name)
        changed = schema.changed_at.replace(microsecond=0)
        headers = {"Last-Modified": format_datetime(changed, usegmt=True)}
        if since := call.headers.get("if-modified-since"):
            try:
                if changed <= parsedate_to_datetime(since):
                    return Reply(304, headers=headers)
            except ValueError:
                raise error(400, "INVALID_HEADER", f"Bad date: {since}") from None
        body = flags(kind, call.base) | {
            "actionOverrides": [],
            "childRelationships": children(schema, kind),
            "compactLayoutable": True,
            "fields": [field.describe() for field in kind.seen],
            "namedLayoutInfos": [],
            "networkScopeFieldName": None,
            "recordTypeInfos": self._record_types(kind),
            "searchLayoutable": True,
            "supportedScopes": [{"label": "All records", "name": "everything"}],
        }
        return Reply(body=body, headers=headers)

    def _record_types(self, kind: SObject) -> Sequence[dict[str, Any]]:
        """The master stands last; it is the default where there is no other."""
        own = self._records.record_types(self._records.store.reader, kind)
        named = [(key, *names) for key, names in own.items()] + [(_MASTER, "Master", "Master")]
        return [
            {
                "active": True,
                "available": True,
                "defaultRecordTypeMapping": number == 0,
                "developerName": developer,
                "master": key == _MASTER,
                "name": name,
                "recordTypeId": key,
                "urls": {},
            }
            for number, (key, name, developer) in enumerate(named)
        ]

    def limits(self, call: Call) -> Reply:
        used, most = self._used()
        left = max(0, most - used)
        fixed = {
            "DailyBulkApiBatches": 15000,
            "DailyBulkV2QueryJobs": 10000,
            "DailyBulkV2QueryFileStorageMB": 976562,
            "DataStorageMB": 1024,
            "FileStorageMB": 1024,
            "HourlyPublishedPlatformEvents": 50000,
        }
        body = {"DailyApiRequests": {"Max": most, "Remaining": left}}
        return Reply(body=body | {name: {"Max": n, "Remaining": n} for name, n in fixed.items()})
