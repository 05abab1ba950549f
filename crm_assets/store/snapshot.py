"""Describes as JSON, and their copy in a file: Dagster's definitions load from it without any connection.

Nothing here imports a database driver, so that loading the definitions does not either.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

from crm_assets.core.model import Field, FieldType, Object, Retired

_FIELD_NAMES = tuple(f.name for f in dataclass_fields(Field))
_OBJECT_NAMES = tuple(f.name for f in dataclass_fields(Object) if f.name not in ("fields", "retired", "rules"))


def object_to_json(obj: Object) -> dict[str, Any]:
    """A describe as JSON; ``object_from_json`` gives back an equal one."""
    return {name: getattr(obj, name) for name in _OBJECT_NAMES} | {
        "fields": [{name: getattr(fld, name) for name in _FIELD_NAMES} for fld in obj.fields],
        "retired": [asdict(one) for one in obj.retired],
    }


def object_from_json(data: Mapping[str, Any]) -> Object:
    known = {name: data[name] for name in _OBJECT_NAMES if name in data}
    for name in ("natural_key", "needed"):
        known[name] = tuple(known.get(name, ()))
    known["left_out"] = tuple((name, kind) for name, kind in known.get("left_out", ()))
    retired = tuple(Retired(**{**one, "type": FieldType(one["type"])}) for one in data.get("retired", ()))
    return Object(fields=tuple(_field(item) for item in data["fields"]), retired=retired, **known)


def _field(data: Mapping[str, Any]) -> Field:
    known = {name: data[name] for name in _FIELD_NAMES if name in data}
    known["type"] = FieldType(known["type"])
    for name in ("picklist", "reference_to"):
        known[name] = tuple(known.get(name, ()))
    known["through"] = tuple((own, other) for own, other in known.get("through", ()))
    return Field(**known)


def _snapshot_path(home: Path, connection: str) -> Path:
    return home / "describe" / f"{connection}.json"


def write_snapshot(home: Path, connection: str, objects: Mapping[str, Object]) -> None:
    """Write the describes for the definitions; a reader sees the old file or the new one, never half."""
    path = _snapshot_path(home, connection)
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.write_text(
        json.dumps({table: object_to_json(obj) for table, obj in objects.items()}, indent=1), encoding="utf-8"
    )
    half.replace(path)


def read_snapshot(home: Path, connection: str) -> dict[str, Object]:
    """The describes as last written; empty when there are none yet or the file is unreadable (it is only a copy)."""
    try:
        data = json.loads(_snapshot_path(home, connection).read_text(encoding="utf-8"))
        return {table: object_from_json(item) for table, item in data.items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
