"""The standing verdict: what the last comparison said, told again after each materialization.

Dagster shows a check as not evaluated as soon as its asset is materialized again. A mirror is materialized every few
minutes and compared far less often; without this its page would hardly ever show whether it is complete.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from crm_assets.connections import ConnectionSpec
from crm_assets.orchestration.checks import severity
from crm_assets.orchestration.naming import mirror_key

if TYPE_CHECKING:
    from crm_assets.store.database import Conn


def standing_verdict(conn: Conn, spec: ConnectionSpec, table: str) -> dg.AssetCheckEvaluation | None:
    """``complete`` of one mirror as it was last found, or None before the first comparison. Asks the CRM nothing."""
    row = conn.execute(
        """SELECT complete, complete_as_of, (
                  SELECT count(DISTINCT id) FROM crm_assets.drift d
                   WHERE d.connection = c.connection AND d.object = c.object AND d.state = 'open')
             FROM crm_assets.cursor c WHERE connection = %s AND object = %s AND complete IS NOT NULL""",
        (spec.connection, table),
    ).fetchone()
    if row is None:
        return None
    complete, as_of, drifted = row
    return dg.AssetCheckEvaluation(
        asset_key=mirror_key(spec.connection, table),
        check_name="complete",
        passed=complete,
        severity=severity(drifted, spec.reconcile.fail_from),
        description=("complete" if complete else "not complete, see crm_assets.drift") + f" as of {as_of.isoformat()}",
        metadata={"as_of": as_of.isoformat(), "drift": drifted, "by": "last comparison"},
    )
