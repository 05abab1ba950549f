"""Objects with more fields than a query's URL can name: read in parts, and put together again.

Source: REST API Developer Guide, "Query": the statement is part of the URL, which may have 16,384 characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from crm_assets.core.model import Field, Object, Page

_LONGEST = 5_000
"""Characters of field names in a query; escaped they are up to twice as long, and ids follow."""


def parts(obj: Object) -> list[Object]:
    """The object as one or more with fewer fields. Each has the version, by which they are put together."""
    always = [fld for fld in obj.fields if fld.name in (obj.version_field, *obj.needed)]
    rest = [fld for fld in obj.fields if fld not in always]
    groups: list[list[Field]] = [[]]
    length = 0
    for fld in rest:
        if length + len(fld.name) + 2 > _LONGEST:
            groups.append([])
            length = 0
        groups[-1].append(fld)
        length += len(fld.name) + 2
    if len(groups) == 1:
        return [obj]
    return [replace(obj, fields=(*always, *group), external_id=None) for group in groups]


def joined(obj: Object, read: Sequence[Page]) -> Page | None:
    """The records with the fields of all parts; None if the parts did not see the same versions of the same records.
    What cannot be stored in one part is set aside as a whole."""
    poison = tuple(one for page in read for one in page.poison)
    bad = pa.array([one.id for one in poison], pa.string())
    tables = [page.table.filter(pc.invert(pc.is_in(page.table["id"], bad))).sort_by("id") for page in read]
    first = tables[0].select(["id", "_version"])
    if any(not table.select(["id", "_version"]).equals(first) for table in tables[1:]):
        return None
    columns = {name: table[name] for table in tables for name in table.column_names}
    schema = obj.page_schema()
    return Page(pa.table([columns[name] for name in schema.names], schema=schema), poison, merged=read[0].merged)
