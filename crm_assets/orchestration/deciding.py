"""What a person decides from the UI: held deletions, and writes that are to be tried again.

The same is a function call in SQL (``crm_assets.approve``, ``decline``, ``retry``); the database judges both alike.
"""

from typing import Any

import dagster as dg

from crm_assets.connections import ConnectionSpec
from crm_assets.orchestration.naming import mirror_key, writeback_key
from crm_assets.orchestration.opening import shared_database


def approve_job(spec: ConnectionSpec) -> dg.JobDefinition:
    """``<connection>_approve``: let the deletions pass that a guard holds, or take them back."""

    @dg.op(
        name=f"{spec.connection}_decide",
        config_schema={
            "guard_id": dg.Field(int, description="The guard, as the check `guard` and crm_assets.guard name it."),
            "decline": dg.Field(
                bool, default_value=False, description="Take the product's deletions back instead: the rows return."
            ),
        },
        out=dg.Out(dg.Nothing),
        tags={"crm_assets/connection": spec.connection},
        description="Let the deletions that a guard holds pass, or take them back.",
    )
    def decide(context: dg.OpExecutionContext) -> None:
        guard_id, decline = context.op_config["guard_id"], context.op_config["decline"]
        with shared_database().transaction() as conn:
            guard = conn.execute(
                "SELECT object FROM crm_assets.guard WHERE guard_id = %s AND connection = %s",
                (guard_id, spec.connection),
            ).fetchone()
            if guard is None:
                raise dg.Failure(
                    description=f"guard_id: {spec.connection} has no guard {guard_id}; crm_assets.guard lists them",
                    allow_retries=False,
                )
            count = _call(conn, "decline" if decline else "approve", guard_id)
        context.log_event(
            dg.AssetObservation(
                mirror_key(spec.connection, guard[0]),
                metadata={"guard_id": guard_id, "deletions_taken_back" if decline else "deletions_let_through": count},
            )
        )

    @dg.job(
        name=f"{spec.connection}_approve",
        description="Decide about deletions that wait because they are unusually many.",
        executor_def=dg.in_process_executor,
    )
    def approve() -> None:
        decide()

    return approve


def replay_job(spec: ConnectionSpec) -> dg.JobDefinition:
    """``<connection>_replay``: send rejected writes again, named ones or all of an object."""

    @dg.op(
        name=f"{spec.connection}_retry",
        config_schema={
            "seqs": dg.Field([int], default_value=[], description="Rows of crm_assets.outbox."),
            "object": dg.Field(
                str, default_value="", description="Table name: all its rejected writes, the earliest first."
            ),
        },
        out=dg.Out(dg.Nothing),
        tags={"crm_assets/connection": spec.connection},
        description="Offer rejected writes to the CRM again.",
    )
    def retry(context: dg.OpExecutionContext) -> None:
        seqs, table = context.op_config["seqs"], context.op_config["object"]
        if bool(seqs) == bool(table):
            raise dg.Failure(description="seqs, object: write one of both", allow_retries=False)
        db = shared_database()
        with db.transaction() as conn:
            chosen = conn.execute(
                """SELECT seq, object FROM crm_assets.outbox
                    WHERE connection = %s AND (seq = ANY (%s) OR object = %s AND state = 'rejected')
                    ORDER BY place, seq""",
                (spec.connection, seqs, table),
            ).fetchall()
        unknown = sorted(set(seqs) - {seq for seq, _ in chosen})
        refused = {seq: f"{spec.connection} has no write {seq}" for seq in unknown}
        sent: dict[str, int] = {}
        for seq, name in chosen:
            try:
                with db.transaction() as conn:
                    _call(conn, "retry", seq)
            except dg.Failure as error:
                refused[seq] = str(error.description)
            else:
                sent[name] = sent.get(name, 0) + 1
        for name, count in sent.items():
            context.log_event(
                dg.AssetObservation(writeback_key(spec.connection, name), metadata={"writes_offered_again": count})
            )
        if refused:
            raise dg.Failure(
                description=f"{sum(sent.values())} writes are offered again; refused: " + "; ".join(refused.values()),
                allow_retries=False,
            )

    @dg.job(
        name=f"{spec.connection}_replay",
        description="Send rejected writes again, after their cause is gone.",
        executor_def=dg.in_process_executor,
    )
    def replay() -> None:
        retry()

    return replay


def _call(conn: Any, function: str, key: int) -> Any:
    """One of the functions that a person may also call in SQL; its own words are the failure's."""
    import psycopg
    from psycopg import sql

    try:
        row = conn.execute(sql.SQL("SELECT {}(%s)").format(sql.Identifier("crm_assets", function)), (key,)).fetchone()
    except psycopg.errors.RaiseException as error:
        raise dg.Failure(description=str(error.diag.message_primary), allow_retries=False) from error
    assert row is not None
    return row[0]
