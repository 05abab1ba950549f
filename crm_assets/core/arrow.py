"""Records as Arrow: the type of each kind of field, and the shape of every page of an object.

Apart from the nouns: pyarrow takes a third of a second to import, and definitions load without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from crm_assets.core.model import FieldType

if TYPE_CHECKING:
    from crm_assets.core.model import Object

ARROW_TYPES: Mapping[FieldType, pa.DataType] = {
    FieldType.TEXT: pa.string(),
    FieldType.BOOLEAN: pa.bool_(),
    FieldType.INTEGER: pa.int64(),
    # 20 digits before the point, 18 after it: wider than any CRM's number. Postgres' numeric has no such bound;
    # what does not fit is set aside by name instead of being rounded.
    FieldType.NUMBER: pa.decimal128(38, 18),
    FieldType.DATE: pa.date32(),
    FieldType.TIME: pa.time64("us"),
    FieldType.TIMESTAMP: pa.timestamp("us", "UTC"),
    FieldType.REFERENCE: pa.string(),
}


def page_schema(obj: Object) -> pa.Schema:
    """``id``, ``_version``, ``_deleted``, then the fields by column name."""
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("_version", ARROW_TYPES[obj.version_type]),
            pa.field("_deleted", pa.bool_(), nullable=False),
            *(pa.field(f.column, ARROW_TYPES[f.type]) for f in obj.fields),
        ]
    )
