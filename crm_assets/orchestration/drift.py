"""Schema drift as a person sees it: what changed, what was made of it, and what is not done yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from crm_assets.core.model import Object
    from crm_assets.core.schema import Change
    from crm_assets.store.database import Conn

_SHOWN = 50
_SHOWN_FOR = "7 days"
_TELLING_FOR = "1 day"
"""A field that went away or changed its type keeps the check from passing for so long: somebody may rely on it."""


def schema_verdict(conn: Conn, connection: str, obj: Object, pending: Sequence[Change]) -> dg.AssetCheckResult:
    """The check ``schema``: ``pending`` are changes that the next run takes over."""
    taken = conn.execute(
        """SELECT field, kind, was, now, "column", to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'),
                  kind IN ('dropped', 'retyped') AND at > clock_timestamp() - %s::interval
             FROM crm_assets.schema_change
            WHERE connection = %s AND object = %s AND at > clock_timestamp() - %s::interval
            ORDER BY change_id DESC LIMIT %s""",
        (_TELLING_FOR, connection, obj.table, _SHOWN_FOR, _SHOWN),
    ).fetchall()
    filling = [
        column
        for (column,) in conn.execute(
            """SELECT "column" FROM crm_assets.fill
                WHERE connection = %s AND object = %s AND done_at IS NULL AND NOT refresh ORDER BY 1""",
            (connection, obj.table),
        )
    ]
    rows = [_row(c.field, c.kind, c.was, c.now, c.column, "by the next run") for c in pending]
    rows += [_row(*line[:6]) for line in taken]
    breaking = [f"{field} was {kind}" for field, kind, *_, tells in taken if tells]
    said = [str(change) for change in pending[:_SHOWN]]
    if said:
        said.append(f"{connection}_full_refresh takes it over now, the next syncs within ten minutes")
    said += [f"filling {', '.join(filling)}"] if filling else []
    metadata: dict[str, Any] = {"fields": len(obj.fields), "changed_fields": len(pending)}
    if rows:
        metadata["changes"] = dg.MetadataValue.table([dg.TableRecord(row) for row in rows])
    if obj.retired:
        metadata["retired_columns"] = dg.MetadataValue.table(
            [
                dg.TableRecord({"column": r.column, "field": r.field, "why": r.why, "since": r.since})
                for r in obj.retired
            ]
        )
    return dg.AssetCheckResult(
        passed=not (pending or filling or breaking),
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join([*said, *breaking]) or None,
        metadata=metadata,
    )


def _row(field: str, change: str, was: str, now: str, column: str, taken_over: str) -> dict[str, str]:
    return {"field": field, "change": str(change), "was": was, "now": now, "column": column, "taken_over": taken_over}
