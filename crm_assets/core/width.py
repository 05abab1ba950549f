"""Rows that are too wide: Postgres keeps a row within a page of 8 kB, long values apart.

A long text leaves a pointer of 18 bytes in the row, a short one stays in it. So hundreds of short texts in one record
can be more than any row holds, whatever is done. Source: PostgreSQL, "TOAST" and "Database Page Layout".
"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from crm_assets.core.model import Page, Poison

_ROOM = 8_160 - 24 - 128
"""A page less its header, the row's header, and the columns of ours, in bytes."""

_POINTER = 18
_FIXED = 8


def storable(page: Page) -> Page:
    """The page without records that no row can hold; those are set aside by name."""
    table = page.table
    if table.num_rows == 0 or table.num_columns * _POINTER <= _ROOM:
        return page
    bytes_ = pa.array([table.num_columns // 8] * table.num_rows, pa.int64())
    for column in table.columns:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            length = pc.cast(pc.binary_length(column), pa.int64())
            size = pc.min_element_wise(pc.add(length, 1), _POINTER, skip_nulls=False)
        else:
            size = pc.if_else(pc.is_valid(column), _FIXED, 0)
        bytes_ = pc.add(bytes_, pc.fill_null(size, 0))
    fits = pc.less_equal(bytes_, _ROOM)
    if pc.all(fits).as_py():
        return page
    wide = [
        Poison(record_id, "", f"its {table.num_columns} fields hold more short values than a row of Postgres can")
        for record_id in table.filter(pc.invert(fits))["id"].to_pylist()
    ]
    return replace(page, table=table.filter(fits), poison=(*page.poison, *wide))
