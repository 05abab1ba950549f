"""Capture: triggers that turn the product's writes into outbox rows, in the product's own transaction.

One statement-level trigger per event and table, generated from the describe. They stay silent for ``apply`` (role
``crm_assets_sync``), but not for a product's own trigger that fires inside ``apply``: there the trigger depth is
above zero.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import LiteralString

from psycopg import sql

from crm_assets.core.model import Object
from crm_assets.core.naming import identifier
from crm_assets.store import audit
from crm_assets.store.database import Conn, statement

_WHEN = "WHEN (current_user <> 'crm_assets_sync' OR pg_trigger_depth() > 0)"

_OURS = ("_version", "_observed_at", "_deleted_at")


def install(conn: Conn, connection: str, obj: Object, columns: dict[str, str], *, writable: bool) -> None:
    """(Re)generate the triggers of one mirror table; call it in the transaction of any DDL on that table.

    ``columns`` are all columns of the mirror that hold fields (column → Postgres type), also of dropped fields.
    """
    create = writable and obj.createable
    createable = {f.column for f in obj.fields if f.createable and create}
    updateable = {f.column for f in obj.fields if f.updateable and writable and obj.updateable}
    for event, body in (
        ("insert", _insert_body(connection, obj, columns, createable, create)),
        ("update", _update_body(connection, obj, columns, createable, updateable)),
        ("delete", _delete_body(connection, obj, writable and obj.deletable)),
        ("truncate", _TRUNCATE),
    ):
        function = sql.Identifier("crm_assets", identifier(f"capture_{connection}_{obj.table}_{event}"))
        table = sql.Identifier(connection, obj.table)
        trigger = sql.Identifier(f"crm_assets_{event}")
        conn.execute(
            sql.SQL(
                "CREATE OR REPLACE FUNCTION {} () RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
                # A session plans each statement once, for as many rows as it first had; a nested loop over old and new
                # rows, right for one, would be quadratic for the many that come later. With the usual work_mem of 4 MB
                # a join of many goes through files, and what the plan is thought to cost would have it compiled.
                "SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET enable_nestloop = off "
                "SET work_mem = '64MB' SET jit = off AS {}"
            ).format(function, sql.Literal(body.as_string(conn) if isinstance(body, sql.Composable) else body))
        )
        conn.execute(sql.SQL("REVOKE EXECUTE ON FUNCTION {} FROM PUBLIC").format(function))
        referencing = {
            "insert": "REFERENCING NEW TABLE AS new_rows",
            "update": "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
            "delete": "REFERENCING OLD TABLE AS old_rows",
            "truncate": "",
        }[event]
        when = "" if event == "truncate" else _WHEN
        conn.execute(
            statement(
                f"CREATE OR REPLACE TRIGGER {{trigger}} AFTER {event.upper()} ON {{table}} {referencing} "
                f"FOR EACH STATEMENT {when} EXECUTE FUNCTION {{function}} ()",
                trigger=trigger,
                table=table,
                function=function,
            )
            if event != "truncate"
            else statement(
                "CREATE OR REPLACE TRIGGER {trigger} BEFORE TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION {function} ()",
                trigger=trigger,
                table=table,
                function=function,
            )
        )
        conn.execute(statement("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}", table=table, trigger=trigger))


_TRUNCATE = """
BEGIN
    RAISE EXCEPTION 'TRUNCATE on %.% is not possible: it cannot be written back to the CRM',
        TG_TABLE_SCHEMA, TG_TABLE_NAME USING HINT = 'DELETE FROM it instead; each deletion is sent to the CRM.';
END """


def _literals(values: list[str]) -> sql.Composable:
    return sql.SQL("ARRAY[{}]::text[]").format(sql.SQL(", ").join(sql.Literal(v) for v in values))


def _insert_body(
    connection: str, obj: Object, columns: dict[str, str], createable: set[str], create: bool
) -> sql.Composable:
    forbidden = ["id", *_OURS, *(c for c in columns if c not in createable)]
    return statement(
        """
DECLARE bad text; known uuid;
BEGIN
    IF NOT {create} AND EXISTS (SELECT FROM new_rows) THEN
        RAISE EXCEPTION {refused};
    END IF;
    SELECT min(CASE {checks} END) INTO bad FROM new_rows n;
    IF bad IS NOT NULL THEN
        RAISE EXCEPTION 'column "%" of {name} cannot be set by an INSERT: %', bad, {why}
            USING HINT = 'Leave the column out.';
    END IF;
    SELECT (array_agg(n.row_id))[1] INTO known FROM new_rows n JOIN crm_assets.tombstone t
        ON t.connection = {connection} AND t.object = {object} AND t.row_id = n.row_id;
    IF known IS NOT NULL THEN
        RAISE EXCEPTION 'row_id % belongs to a deleted record of {name}', known
            USING HINT = 'Leave row_id out, so that the new record gets its own.';
    END IF;
    INSERT INTO crm_assets.outbox (connection, object, op, row_id, new)
    SELECT {connection}, {object}, 'create', n.row_id, jsonb_strip_nulls(to_jsonb(n) - {excluded})
      FROM new_rows n ORDER BY n.row_id;
    IF FOUND THEN PERFORM pg_notify('crm_assets_outbox', {connection}); END IF;
    RETURN NULL;
END """,
        create=sql.Literal(create),
        refused=sql.Literal(_refused(connection, obj, "inserted into")),
        checks=sql.SQL(" ").join(
            sql.SQL("WHEN {} IS NOT NULL THEN {}").format(sql.Identifier("n", c), sql.Literal(c)) for c in forbidden
        ),
        why=_why(obj, "bad", "the CRM gives it its value"),
        name=sql.SQL(_plain(f"{connection}.{obj.table}")),
        connection=sql.Literal(connection),
        object=sql.Literal(obj.table),
        excluded=_literals(["row_id", *forbidden]),
    )


def _update_body(
    connection: str, obj: Object, columns: dict[str, str], createable: set[str], updateable: set[str]
) -> sql.Composable:
    # The row_id is the join key: a row of the old state without a partner has lost its own.
    fixed = ["id", *_OURS, *(c for c in columns if c not in updateable)]
    captured = tuple(f for f in obj.fields if f.column in updateable)
    return statement(
        """
BEGIN
    INSERT INTO crm_assets.outbox (connection, object, op, row_id, id, base, new)
    SELECT {connection}, {object}, CASE WHEN again THEN 'create' ELSE 'update' END, d.row_id, d.id,
           CASE WHEN again THEN NULL ELSE d.base END,
           CASE WHEN again THEN jsonb_strip_nulls(to_jsonb(d.n) - {excluded}) ELSE d.new END
      -- OFFSET keeps the expressions from being copied to where they are used, and worked out once for each use.
      FROM (SELECT o.row_id, n.id, n, CASE WHEN n.row_id IS NULL THEN 'row_id' {fixed} END AS bad, {changes}
              FROM old_rows o LEFT JOIN new_rows n ON n.row_id = o.row_id OFFSET 0)
           AS d (row_id, id, n, bad, base, new)
     CROSS JOIN LATERAL (
        -- A row that never reached the CRM and has no create under way is offered again as a whole.
        SELECT d.id IS NULL AND (
            SELECT x.seq FROM crm_assets.outbox x
             WHERE x.connection = {connection} AND x.object = {object} AND x.row_id = d.row_id AND x.op = 'create'
               AND x.state IN ('pending', 'sending', 'unknown', 'confirmed') LIMIT 1) IS NULL AS again) a
     WHERE CASE WHEN d.bad IS NULL THEN d.new <> '{{}}' ELSE crm_assets.refuse_change({name}, d.bad, {why}) END;
    IF FOUND THEN PERFORM pg_notify('crm_assets_outbox', {connection}); END IF;
    RETURN NULL;
END """,
        connection=sql.Literal(connection),
        object=sql.Literal(obj.table),
        excluded=_literals(["row_id", "id", *_OURS, *(c for c in columns if c not in createable)]),
        fixed=sql.SQL(" ").join(
            sql.SQL("WHEN {} IS DISTINCT FROM {} THEN {}").format(
                sql.Identifier("o", c), sql.Identifier("n", c), sql.Literal(c)
            )
            for c in fixed
        ),
        changes=audit.old_and_new(captured, "o", "n"),
        name=sql.Literal(f"{connection}.{obj.table}"),
        why=_why(
            obj,
            "d.bad",
            "it is kept by crm_assets or is read-only in the CRM"
            if updateable
            else "the object is read-only (write: false in defs.yaml, or no right in the CRM)",
        ),
    )


def _delete_body(connection: str, obj: Object, allowed: bool) -> sql.Composable:
    return statement(
        """
BEGIN
    IF NOT {allowed} AND EXISTS (SELECT FROM old_rows) THEN
        RAISE EXCEPTION {refused};
    END IF;
    -- Locked first: a worker that claims the create in this moment is seen by the next statement's snapshot.
    PERFORM FROM crm_assets.outbox x JOIN old_rows o ON x.row_id = o.row_id
      WHERE x.connection = {connection} AND x.object = {object} AND x.state IN ('pending', 'conflict', 'rejected')
      ORDER BY x.seq FOR UPDATE OF x;
    -- Updates that were still waiting are part of what is deleted; what the CRM has is in their bases. The create
    -- of a record that never left is withdrawn together with its delete.
    WITH gone AS (
        UPDATE crm_assets.outbox x
           SET state = CASE WHEN x.op = 'update' AND o.id IS NOT NULL THEN 'superseded' ELSE 'discarded' END,
               reason = 'the record was deleted by the product'
          FROM old_rows o
         WHERE x.connection = {connection} AND x.object = {object} AND x.row_id = o.row_id
           AND (x.state IN ('pending', 'conflict') OR x.state = 'rejected' AND o.id IS NULL)
           AND x.op IN ('create', 'update')
        RETURNING x.seq, x.row_id, x.base, x.op
    ), bases AS (
        -- The earliest write of a field knows the CRM's value; jsonb_object_agg keeps the last one it sees.
        SELECT g.row_id, jsonb_object_agg(e.key, e.value ORDER BY g.seq DESC) AS base
          FROM gone g CROSS JOIN LATERAL jsonb_each(coalesce(g.base, '{{}}')) e
         WHERE g.op = 'update' GROUP BY g.row_id
    ), closed AS (
        UPDATE crm_assets.conflict c
           SET state = 'resolved', resolution = 'deleted', resolved_at = clock_timestamp(), resolved_by = session_user
          FROM gone g WHERE c.seq = g.seq AND c.state = 'open'
    ), buried AS (
        INSERT INTO crm_assets.tombstone AS t (connection, object, row_id, id, "values", deleted_by, actor, version)
        SELECT {connection}, {object}, o.row_id, o.id, to_jsonb(o), 'product', session_user, o._version::text
          FROM old_rows o
        ON CONFLICT (connection, object, row_id) DO UPDATE
            SET "values" = excluded."values", deleted_by = 'product', actor = excluded.actor,
                version = excluded.version, observed_at = clock_timestamp(), buried_at = clock_timestamp()
    )
    INSERT INTO crm_assets.outbox (connection, object, op, row_id, id, base, state, reason)
    SELECT {connection}, {object}, 'delete', o.row_id, o.id,
           (to_jsonb(o) - '{{row_id,id,_version,_observed_at,_deleted_at}}'::text[]) || coalesce(b.base, '{{}}'),
           CASE WHEN o.id IS NULL AND NOT under_way THEN 'discarded' ELSE 'pending' END,
           CASE WHEN o.id IS NULL AND NOT under_way THEN 'the record never reached the CRM' END
      FROM old_rows o LEFT JOIN bases b ON b.row_id = o.row_id
     CROSS JOIN LATERAL (
        SELECT EXISTS (
            SELECT FROM crm_assets.outbox x
             WHERE x.connection = {connection} AND x.object = {object} AND x.row_id = o.row_id AND x.op = 'create'
               AND x.state IN ('sending', 'unknown', 'confirmed')) AS under_way) c
     ORDER BY o.row_id;
    IF FOUND THEN PERFORM pg_notify('crm_assets_outbox', {connection}); END IF;
    RETURN NULL;
END """,
        allowed=sql.Literal(allowed),
        refused=sql.Literal(_refused(connection, obj, "deleted from")),
        connection=sql.Literal(connection),
        object=sql.Literal(obj.table),
    )


_RETIRED = {
    "dropped": "the CRM dropped its field {field}, or hides it from the account, as was seen at {since}; "
    "the column keeps its last values",
    "retyped": "the CRM changed the type of its field {field}, which has another column since {since}",
    "not chosen": "its field {field} is not among the fields that defs.yaml chooses",
}


def _why(obj: Object, bad: LiteralString, otherwise: str) -> sql.Composable:
    """Why the column that ``bad`` names is not to be written, as an expression."""
    whens = [
        sql.SQL("WHEN {} THEN {}").format(
            sql.Literal(one.column), sql.Literal(_RETIRED[one.why].format(field=one.field, since=_minute(one.since)))
        )
        for one in obj.retired
    ]
    if not whens:
        return sql.Literal(otherwise)
    return sql.SQL("CASE {} {} ELSE {} END").format(sql.SQL(bad), sql.SQL(" ").join(whens), sql.Literal(otherwise))


def _minute(at: str) -> str:
    return datetime.fromisoformat(at).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _plain(name: str) -> str:
    # Inside a format string of RAISE: quotes and percent signs of a name must not end or fill it.
    return name.replace("'", "''").replace("%", "%%")


def _refused(connection: str, obj: Object, what: str) -> str:
    return (
        f"{connection}.{obj.table} cannot be {what}: set `write: true` for {obj.name} in defs.yaml, "
        "or ask for the right in the CRM"
    ).replace("%", "%%")
