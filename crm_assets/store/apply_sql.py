"""The statements of ``apply`` for one object, generated from its describe.

Each statement of a batch goes through the temporary table of what was picked and looks everything else up by key, one
row at a time. Stage, outbox and floor fill and empty within seconds, so that their statistics are never right: what
the planner may choose is, sooner or later, a scan of the whole mirror, or each row with each. So look-ups are
subqueries with a LIMIT, which cannot become joins, and ``PLANS`` leaves nested loops alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from psycopg import sql

from crm_assets.core.model import Field, FieldType, Object
from crm_assets.store import audit
from crm_assets.store.database import Statement, statement
from crm_assets.store.ddl import stage_schema

UNSETTLED = "('pending', 'sending', 'unknown', 'conflict')"

_VISIBLE = "(s._load IS NULL OR s._load = ANY (%(loads)s))"

_UUID = "^[0-9a-f]{{8}}-[0-9a-f]{{4}}-[0-9a-f]{{4}}-[0-9a-f]{{4}}-[0-9a-f]{{12}}$"

_CONTROL = ("_seq", "_load", "_source", "_observed_at", "_outbox", "_met_at", "_version", "_deleted", "id")
"""Columns of the stage that are no fields of the record."""

_NEWER = "(p.version_null OR m._version IS NULL OR s._version > m._version)"

# Its rows stay until the next batch: emptied at each commit, it would have every statement planned anew.
TEMPORARY = """
CREATE TEMPORARY TABLE IF NOT EXISTS crm_assets_pick (
    id text PRIMARY KEY,
    seq bigint NOT NULL,
    seqs bigint[] NOT NULL,
    eligible boolean NOT NULL,
    deleted boolean NOT NULL,
    version_null boolean NOT NULL,
    row_id uuid,
    held jsonb,
    tied boolean,
    act text
);
CREATE INDEX IF NOT EXISTS crm_assets_pick_row_id ON crm_assets_pick (row_id);
DELETE FROM crm_assets_pick
"""
EMPTY = "TRUNCATE crm_assets_pick"

PLANS = "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"
HASHED = "SET LOCAL enable_hashjoin = on"

_CHOSEN = "JOIN LATERAL (SELECT * FROM {stage} s WHERE s._seq = p.seq LIMIT 1) s ON true"
"""The observation that counts of a picked id."""

_FLOOR = """LEFT JOIN LATERAL (
                    SELECT f.* FROM crm_assets.floor f
                     WHERE f.connection = {{connection}} AND f.object = {{object}} AND f.id = {id} LIMIT 1) f ON true"""


def staged(fld: Field, alias: str = "s") -> sql.Composable:
    """A field of the stage as the mirror stores it: Arrow's decimals carry 18 digits, the mirror only real ones."""
    column = sql.Identifier(alias, fld.column)
    return statement("trim_scale({c})", c=column) if fld.type is FieldType.NUMBER else column


@dataclass(frozen=True)
class ApplySql:
    """Statements for ``connection`` and ``obj``; parameters are named (``lo``, ``hi``, ``loads``, …).

    ``returns_old``: an UPDATE of this server gives the old row back (PostgreSQL 18). For an older one the row is joined
    once more: the batch has locked it, so that its snapshot has the same.
    """

    connection: str
    obj: Object
    returns_old: bool = True

    @cached_property
    def mirror(self) -> sql.Composable:
        return sql.Identifier(self.connection, self.obj.table)

    @cached_property
    def stage(self) -> sql.Composable:
        return sql.Identifier(stage_schema(self.connection), self.obj.table)

    def _each(self, template: str, fields: tuple[Field, ...] | None = None, glue: str = ", ") -> sql.Composable:
        chosen = self.obj.fields if fields is None else fields
        return sql.SQL(glue).join(
            statement(template, c=sql.Identifier(f.column), k=sql.Literal(f.column)) for f in chosen
        )

    def _make(self, text: str, **names: sql.Composable) -> Statement:
        return statement(
            text,
            mirror=self.mirror,
            stage=self.stage,
            connection=sql.Literal(self.connection),
            object=sql.Literal(self.obj.table),
            **names,
        )

    @property
    def _newer(self) -> str:
        """Whether the observation is newer by version. Of records without one, the time of the reads decides."""
        return _NEWER if self.obj.version_field is not None else "m._observed_at IS NULL"

    def _external(self, alias: str) -> sql.Composable:
        """The row_id that travels in the record's external-id field, or NULL when there is none."""
        column = self.obj.external_id_column
        if column is None:
            return sql.SQL("NULL::uuid")
        return statement(f"(CASE WHEN {{c}} ~ '{_UUID}' THEN {{c}}::uuid END)", c=sql.Identifier(alias, column))

    @cached_property
    def before(self) -> Statement:
        return self._make(
            """SELECT EXISTS (SELECT FROM {stage} WHERE _source = 'reply'),
                      EXISTS (SELECT FROM {mirror} WHERE id IS NULL)
                   OR EXISTS (SELECT FROM crm_assets.tombstone
                               WHERE connection = {connection} AND object = {object} AND id IS NULL)"""
        )

    @cached_property
    def after(self) -> Statement:
        return self._make(
            """WITH landed AS MATERIALIZED (
                   SELECT load_id FROM crm_assets.load
                    WHERE connection = {connection} AND object = {object} AND state = 'landed')
               SELECT EXISTS (SELECT FROM crm_assets.merge
                               WHERE connection = {connection} AND object = {object} AND done_at IS NULL)
                   OR EXISTS (SELECT FROM crm_assets.alias
                               WHERE connection = {connection} AND object = {object} AND survivor IS NULL),
                      EXISTS (SELECT FROM landed),
                      (SELECT count(DISTINCT id) FROM {stage}
                        WHERE _load IS NULL OR _load IN (SELECT load_id FROM landed))"""
        )

    @cached_property
    def bounds(self) -> Statement:
        """The first and last id of the next batch after ``lo``."""
        return self._make(
            f"""SELECT min(id), max(id) FROM (
                    SELECT DISTINCT s.id FROM {{stage}} s
                     WHERE s.id > %(lo)s AND s._source <> 'reply' AND {_VISIBLE}
                     ORDER BY s.id LIMIT %(size)s) x"""
        )

    @cached_property
    def pick(self) -> Statement:
        """The newest observation of each id; all of an id's rows are taken together. Returns how many there are, how
        many have several observations, how many are rows of the mirror and may be written, how many are no rows, and
        how many have a floor.

        An observation without a version is a primary read that found nothing: ids are never used again, so it is
        newer than any version.
        """
        floor = _FLOOR.format(id="s.id")
        return self._make(
            f"""WITH picked AS (
                INSERT INTO crm_assets_pick (id, seq, seqs, eligible, deleted, version_null, row_id)
                SELECT s.id,
                       (array_agg(s._seq ORDER BY ok DESC, s._version DESC NULLS FIRST,
                                  (s._source = 'lagging'), s._observed_at DESC))[1],
                       array_agg(s._seq),
                       bool_or(ok),
                       (array_agg(s._deleted ORDER BY ok DESC, s._version DESC NULLS FIRST,
                                  (s._source = 'lagging'), s._observed_at DESC))[1],
                       bool_or(ok AND s._version IS NULL),
                       (SELECT m.row_id FROM {{mirror}} m WHERE m.id = s.id LIMIT 1)
                  FROM {{stage}} s
                  {floor}
                 CROSS JOIN LATERAL (
                    SELECT f.id IS NULL OR s._observed_at >= f.floor_at AND s._source <> 'lagging' AS ok) o
                 WHERE s.id >= %(lo)s AND s.id <= %(hi)s AND s._source <> 'reply' AND {_VISIBLE}
                 GROUP BY s.id
                RETURNING id, cardinality(seqs) AS observations, row_id, eligible AND NOT deleted AS there)
               SELECT count(*), count(*) FILTER (WHERE observations > 1),
                      count(*) FILTER (WHERE row_id IS NOT NULL AND there), count(*) FILTER (WHERE row_id IS NULL),
                      count((SELECT f.id FROM crm_assets.floor f
                              WHERE f.connection = {{connection}} AND f.object = {{object}} AND f.id = p.id LIMIT 1))
                 FROM picked p"""
        )

    @cached_property
    def ties(self) -> Statement:
        """Observations of one version that differ in a writable field: like a tie with the mirror, a read
        settles it."""
        writable = tuple(f for f in self.obj.fields if f.writable)
        chosen, floor = _CHOSEN.replace("p.seq", "q.seq"), _FLOOR.format(id="q.id")
        return self._make(
            f"""UPDATE crm_assets_pick p SET tied = true
                 FROM crm_assets_pick q
                 {chosen}
                 JOIN {{stage}} o ON o._seq = ANY (q.seqs)
                 {floor}
                WHERE q.id = p.id AND cardinality(q.seqs) > 1 AND s._source = 'list' AND o._source <> 'lagging'
                  AND o._version = s._version AND NOT s._deleted AND NOT o._deleted
                  AND (f.id IS NULL OR o._observed_at >= f.floor_at) AND ({{differs}})""",
            differs=self._each("o.{c} IS DISTINCT FROM s.{c}", writable, glue=" OR ") if writable else sql.SQL("false"),
        )

    @cached_property
    def lock(self) -> Statement:
        """Statement 1: lock what can be locked at once; NO KEY UPDATE lets the product's foreign keys be.

        A record with a reply that could not be done yet waits behind it: the reply puts older values back.
        """
        return self._make(
            """UPDATE crm_assets_pick p SET act = 'locked'
                WHERE p.row_id IS NOT NULL AND p.eligible AND NOT p.deleted
                  AND (SELECT r._seq FROM {stage} r WHERE r.id = p.id AND r._source = 'reply' LIMIT 1) IS NULL
                  AND (SELECT m.row_id FROM {mirror} m WHERE m.row_id = p.row_id
                          FOR NO KEY UPDATE SKIP LOCKED) IS NOT NULL"""
        )

    @cached_property
    def hold(self) -> Statement:
        """Which fields of the locked rows are unsettled. Seen after the lock, so no product write is missed. Returns a
        row for each that has any."""
        return self._make(
            f"""UPDATE crm_assets_pick p SET held = h.held
                  FROM crm_assets_pick q
                 CROSS JOIN LATERAL (
                    SELECT jsonb_object_agg(k, true) AS held
                      FROM crm_assets.outbox o CROSS JOIN LATERAL jsonb_object_keys(o.new) k
                     WHERE o.connection = {{connection}} AND o.object = {{object}} AND o.row_id = q.row_id
                       AND o.state IN {UNSETTLED}) h
                 WHERE q.id = p.id AND q.act = 'locked' AND h.held IS NOT NULL
                   -- Asked once: mostly there is nothing to look up.
                   AND EXISTS (SELECT FROM crm_assets.outbox o WHERE o.connection = {{connection}}
                               AND o.object = {{object}} AND o.state IN {UNSETTLED})"""
        )

    @cached_property
    def decide(self) -> Statement:
        """What to do with each locked row: write, same, skip, or re-read by id."""
        differs = "(NOT coalesce(p.held ? {k}, false) AND m.{c} IS DISTINCT FROM s.{c})"
        writable = tuple(f for f in self.obj.fields if f.writable)
        floor = _FLOOR.format(id="p.id")
        return self._make(
            f"""UPDATE crm_assets_pick p SET act = (
                SELECT CASE
                    WHEN f.id IS NOT NULL THEN
                        CASE WHEN s._observed_at >= f.floor_at AND s._source <> 'lagging' THEN 'first' ELSE 'skip' END
                    WHEN m._deleted_at IS NOT NULL THEN
                        CASE WHEN s._source = 'id' AND s._observed_at > m._deleted_at THEN 'write'
                             WHEN p.version_null OR {self._newer} THEN 'reread' ELSE 'skip' END
                    WHEN {self._newer} THEN 'write'
                    WHEN s._version < m._version OR s._source = 'lagging' THEN 'skip'
                    WHEN NOT ({{differs}}) THEN 'same'
                    WHEN s._observed_at <= m._observed_at THEN 'skip'
                    WHEN s._source <> 'id' AND ({{writable}}) AND NOT p.version_null THEN 'reread'
                    ELSE 'write' END
                  FROM (SELECT * FROM {{stage}} s WHERE s._seq = p.seq LIMIT 1) s
                 CROSS JOIN (SELECT * FROM {{mirror}} m WHERE m.row_id = p.row_id LIMIT 1) m
                  {floor})
                WHERE p.act = 'locked'""",
            differs=self._each(differs, glue=" OR ") if self.obj.fields else sql.SQL("false"),
            writable=self._each(differs, writable, glue=" OR ") if writable else sql.SQL("false"),
        )

    @cached_property
    def lock_outbox(self) -> Statement:
        """The writes that get ``theirs``. Somebody may hold one in an open transaction: its record then waits."""
        unsettled = f"""crm_assets.outbox o
                         WHERE o.connection = {{connection}} AND o.object = {{object}} AND o.row_id = p.row_id
                           AND o.state IN {UNSETTLED}"""
        return self._make(
            f"""UPDATE crm_assets_pick p SET act = NULL
                 WHERE p.held IS NOT NULL AND p.act IN ('write', 'first')
                   AND (SELECT count(*) FROM (SELECT FROM {unsettled} FOR NO KEY UPDATE SKIP LOCKED) free)
                     < (SELECT count(*) FROM {unsettled})"""
        )

    @cached_property
    def theirs(self) -> Statement:
        """What the CRM has for the held fields goes beside the product's value. The first read after a reply is
        also the new base of pending writes of the fields that were settled.

        A write that knows it already is left alone: a record may have thousands of them, and the product waits for
        its row meanwhile.
        """
        floor = _FLOOR.format(id="p.id")
        return self._make(
            f"""UPDATE crm_assets.outbox o
                   SET theirs = coalesce(o.theirs, '{{{{}}}}') || (
                           SELECT jsonb_object_agg(k, r.record -> k) FROM jsonb_object_keys(o.new) k),
                       theirs_version = s._version::text,
                       theirs_since = (
                           SELECT jsonb_object_agg(k, CASE
                                      WHEN o.theirs_since ? k AND o.theirs -> k = r.record -> k
                                      THEN o.theirs_since -> k ELSE to_jsonb(s._version::text) END)
                             FROM jsonb_object_keys(o.new) k),
                       base = CASE WHEN p.act = 'first' AND o.state = 'pending' AND o.base IS NOT NULL
                                   THEN o.base || coalesce((
                                       SELECT jsonb_object_agg(k, r.record -> k) FROM jsonb_object_keys(o.new) k
                                        WHERE k = ANY (f.fields)), '{{{{}}}}')
                                   ELSE o.base END
                  FROM crm_assets_pick p
                  {_CHOSEN}
                  {floor}
                 -- Once per record, and not once per field of each of its writes.
                 CROSS JOIN LATERAL (SELECT to_jsonb(s) AS record OFFSET 0) r
                 WHERE p.row_id = o.row_id AND o.connection = {{connection}} AND o.object = {{object}}
                   AND o.state IN {UNSETTLED} AND o.op = 'update' AND p.held IS NOT NULL
                   AND p.act IN ('write', 'first')
                   AND (p.act = 'first' OR EXISTS (
                        SELECT FROM jsonb_object_keys(o.new) k WHERE o.theirs -> k IS DISTINCT FROM r.record -> k))"""
        )

    @cached_property
    def write(self) -> Statement:
        """Statement 2: only rows locked by statement 1, held fields keep the product's value."""
        sets = sql.SQL(", ").join(
            statement(
                "{c} = CASE WHEN p.held ? {k} THEN m.{c} ELSE {v} END",
                c=sql.Identifier(f.column),
                k=sql.Literal(f.column),
                v=staged(f),
            )
            for f in self.obj.fields
        )
        comma = sql.SQL(", ") if self.obj.fields else sql.SQL("")
        return self._make(
            f"""WITH written AS (
                UPDATE {{mirror}} m
                   SET {{sets}}{{comma}} _version = s._version, _observed_at = s._observed_at, _deleted_at = NULL
                  FROM crm_assets_pick p {_CHOSEN} {{old}}
                 WHERE m.row_id = p.row_id AND p.act IN ('write', 'first')
                RETURNING {{returning}} m.row_id, m.id, s._version::text AS version, s._source AS source,
                       crm_assets_old._deleted_at IS NOT NULL AS undeleted, {{changed}})
               INSERT INTO crm_assets.change (connection, object, op, row_id, id, old, new, version, source, process)
               SELECT {{connection}}, {{object}}, CASE WHEN undeleted THEN 'undelete' ELSE 'update' END, row_id, id,
                      old, new, version, source, %(process)s
                 FROM written AS w (row_id, id, version, source, undeleted, old, new)
                WHERE undeleted OR new <> '{{{{}}}}'""",
            sets=sets,
            comma=comma,
            old=sql.SQL("")
            if self.returns_old
            else statement("JOIN {m} crm_assets_old ON crm_assets_old.row_id = p.row_id", m=self.mirror),
            returning=sql.SQL("WITH (OLD AS crm_assets_old)" if self.returns_old else ""),
            changed=audit.old_and_new(self.obj.fields, "crm_assets_old", "m"),
        )

    @cached_property
    def insert(self) -> Statement:
        """Ids with no mirror row and no tombstone, in id order. A row that appears meanwhile wins: DO NOTHING.

        The one statement that may hash (``HASHED``): what was born is known only to itself.
        """
        comma = sql.SQL(", ") if self.obj.fields else sql.SQL("")
        return self._make(
            f"""WITH born AS (
                INSERT INTO {{mirror}} AS m (row_id, id, {{columns}}{{comma}} _version, _observed_at)
                SELECT CASE WHEN x.row_id IS NOT NULL
                             AND (SELECT t.row_id FROM crm_assets.tombstone t WHERE t.connection = {{connection}}
                                     AND t.object = {{object}} AND t.row_id = x.row_id LIMIT 1) IS NULL
                             AND (SELECT m.row_id FROM {{mirror}} m WHERE m.row_id = x.row_id LIMIT 1) IS NULL
                            THEN x.row_id ELSE crm_assets.uuidv7() END,
                       s.id, {{values}}{{comma}} s._version, s._observed_at
                  FROM crm_assets_pick p
                  {_CHOSEN}
                 CROSS JOIN LATERAL (SELECT {{external}} AS row_id) x
                 WHERE p.row_id IS NULL AND p.eligible AND NOT p.deleted
                   AND (SELECT m.id FROM {{mirror}} m WHERE m.id = p.id LIMIT 1) IS NULL
                   AND (SELECT m.row_id FROM {{mirror}} m WHERE m.row_id = x.row_id AND m.id IS NULL LIMIT 1) IS NULL
                   AND (SELECT t.id FROM crm_assets.tombstone t WHERE t.connection = {{connection}}
                           AND t.object = {{object}} AND t.id = p.id LIMIT 1) IS NULL
                   AND {{stranger}}
                 ORDER BY s.id
                ON CONFLICT DO NOTHING RETURNING m.id, m.row_id, m AS record),
               noted AS (
                INSERT INTO crm_assets.change (connection, object, op, row_id, id, new, version, source, process)
                SELECT {{connection}}, {{object}}, 'create', b.row_id, b.id, {{record}}, s._version::text, s._source,
                       %(process)s
                  FROM born b JOIN crm_assets_pick p ON p.id = b.id
                  {_CHOSEN}
                 WHERE s._load IS NULL OR s._load <> ALL (%(first)s::bigint[]))
               UPDATE crm_assets_pick p SET act = 'born' FROM born b WHERE b.id = p.id""",
            columns=self._each("{c}"),
            values=sql.SQL(", ").join(staged(f) for f in self.obj.fields),
            comma=comma,
            external=self._external("s"),
            stranger=self._stranger,
            record=audit.whole(sql.SQL("b.record")),
        )

    @property
    def _stranger(self) -> sql.Composable:
        """That an unknown record is not what one of our creates made, for objects whose creates carry no row_id."""
        if self.obj.external_id is not None or not self.obj.createable:
            return sql.SQL("true")
        if self.obj.natural_key:
            # What a create leaves to the CRM may have become anything.
            alike = sql.SQL(" AND ").join(
                statement("(m.{c} = s.{c} OR m.{c} IS NULL)", c=sql.Identifier(column))
                for column in self.obj.natural_key
            )
            return self._make("NOT EXISTS (SELECT FROM {mirror} m WHERE m.id IS NULL AND {alike})", alike=alike)
        return self._make(
            """NOT EXISTS (SELECT FROM {stage} r WHERE r.id = s.id AND r._source = 'reply')
               AND NOT EXISTS (SELECT FROM crm_assets.outbox o WHERE {in_flight})""",
            in_flight=self._in_flight,
        )

    @property
    def _in_flight(self) -> sql.Composable:
        """Creates that may have made the record: sent before apply first met it, and still without an outcome."""
        return self._make(
            """o.connection = {connection} AND o.object = {object} AND o.op = 'create'
               AND o.state IN ('sending', 'unknown') AND o.echo_until > clock_timestamp()
               AND o.claimed_at < coalesce(s._met_at, 'infinity')"""
        )

    def alike(self, ours: str, theirs: str) -> sql.Composable:
        """That two rows have the same natural key."""
        return sql.SQL(" AND ").join(
            statement("{a} = {b}", a=sql.Identifier(ours, column), b=sql.Identifier(theirs, column))
            for column in self.obj.natural_key
        )

    @cached_property
    def meet(self) -> Statement | None:
        """Note when a record was first left waiting for a create: creates sent later cannot have made it."""
        if self.obj.external_id is not None or self.obj.natural_key or not self.obj.createable:
            return None
        return self._make(
            """UPDATE {stage} s SET _met_at = clock_timestamp() FROM crm_assets_pick p
                WHERE s._seq = p.seq AND s._met_at IS NULL AND p.row_id IS NULL AND p.eligible AND NOT p.deleted
                  AND p.act IS NULL
                  AND EXISTS (SELECT FROM crm_assets.outbox o WHERE {in_flight})""",
            in_flight=self._in_flight,
        )

    @cached_property
    def buried(self) -> Statement:
        """Observations of tombstoned ids: a primary read begun after the tombstone lifts it (later, on its own);
        any other sign of life only asks for such a read. While our own delete is unsettled nothing lifts it."""
        chosen = _CHOSEN.replace("p.seq", "q.seq")
        return self._make(
            f"""UPDATE crm_assets_pick p SET act = CASE
                    WHEN NOT p.eligible THEN 'skip'
                    WHEN d.seq IS NOT NULL THEN 'deleting'
                    WHEN p.deleted THEN 'skip'
                    WHEN s._source = 'id' AND s._observed_at > t.observed_at THEN 'lift'
                    WHEN t.version IS NULL OR s._version::text IS NULL
                         OR s._version > (t.version)::{{version}} THEN 'reread'
                    ELSE 'skip' END
                  FROM crm_assets_pick q
                  {chosen}
                  JOIN LATERAL (
                    SELECT * FROM crm_assets.tombstone t
                     WHERE t.connection = {{connection}} AND t.object = {{object}} AND t.id = q.id LIMIT 1) t ON true
                  LEFT JOIN LATERAL (
                    SELECT o.seq FROM crm_assets.outbox o
                     WHERE o.connection = {{connection}} AND o.object = {{object}} AND o.row_id = t.row_id
                       AND o.op = 'delete' AND o.state IN {UNSETTLED} LIMIT 1) d ON true
                 WHERE q.id = p.id AND q.row_id IS NULL AND q.act IS NULL""",
            version=sql.SQL("text" if self.obj.version_text else "timestamptz"),
        )

    @cached_property
    def bury(self) -> Statement:
        """Deletions of ids that were never here are remembered at once; nothing of the product can refer to them."""
        return self._make(
            f"""WITH gone AS (
                INSERT INTO crm_assets.tombstone
                       (connection, object, row_id, id, "values", deleted_by, version, observed_at, approved)
                SELECT {{connection}}, {{object}}, crm_assets.uuidv7(), p.id, to_jsonb(s) - {{control}}::text[], 'crm',
                       s._version::text, s._observed_at,
                       -- The guard counts what leaves the mirror.
                       true
                  FROM crm_assets_pick p {_CHOSEN}
                 WHERE p.row_id IS NULL AND p.act IS NULL AND p.eligible AND p.deleted
                   AND (SELECT m.id FROM {{mirror}} m WHERE m.id = p.id LIMIT 1) IS NULL
                ON CONFLICT DO NOTHING RETURNING id)
               UPDATE crm_assets_pick p SET act = 'gone' FROM gone g WHERE g.id = p.id""",
            control=sql.Literal([name for name in _CONTROL if name != "id"]),
        )

    @cached_property
    def lock_deletes(self) -> Statement:
        """As ``lock_outbox``, for the deletes that get ``theirs``."""
        return self._make(
            f"""WITH ours AS (
                    SELECT p.id, o.seq FROM crm_assets_pick p
                      JOIN crm_assets.tombstone t
                        ON t.connection = {{connection}} AND t.object = {{object}} AND t.id = p.id
                      JOIN crm_assets.outbox o
                        ON o.connection = {{connection}} AND o.object = {{object}} AND o.row_id = t.row_id
                     WHERE p.act = 'deleting' AND o.op = 'delete' AND o.state IN {UNSETTLED}),
                   free AS (
                    SELECT o.seq FROM crm_assets.outbox o JOIN ours ON ours.seq = o.seq
                     ORDER BY o.seq FOR NO KEY UPDATE OF o SKIP LOCKED)
               UPDATE crm_assets_pick p SET act = 'waits' FROM ours
                WHERE ours.id = p.id AND ours.seq NOT IN (SELECT seq FROM free)"""
        )

    @cached_property
    def theirs_of_deletes(self) -> Statement:
        """What the CRM shows of a record that we are about to delete; the drain compares it with the base. The first
        read after a write of our own is the new base: what the CRM's automation made of that write is no edit."""
        floor = _FLOOR.format(id="p.id")
        return self._make(
            f"""UPDATE crm_assets.outbox o
                   SET theirs = v.record, theirs_version = s._version::text,
                       base = CASE WHEN f.id IS NOT NULL AND o.state = 'pending' THEN v.record ELSE o.base END
                  FROM crm_assets_pick p
                  {_CHOSEN}
                  JOIN crm_assets.tombstone t
                    ON t.connection = {{connection}} AND t.object = {{object}} AND t.id = p.id
                  {floor}
                 CROSS JOIN LATERAL (
                    SELECT to_jsonb(s) - {{control}}::text[] AS record) v
                 WHERE p.act = 'deleting' AND NOT p.deleted AND o.connection = {{connection}} AND o.object = {{object}}
                   AND o.row_id = t.row_id AND o.op = 'delete' AND o.state IN {UNSETTLED}""",
            control=sql.Literal(list(_CONTROL)),
        )

    @cached_property
    def lower_floor(self) -> Statement:
        """The first read after a write of ours has been taken in, whatever it led to."""
        return self._make(
            f"""DELETE FROM crm_assets.floor f USING crm_assets_pick p {_CHOSEN}
                WHERE f.connection = {{connection}} AND f.object = {{object}} AND f.id = p.id AND p.eligible
                  -- Raised again meanwhile: then this read is older than the write it was raised for.
                  AND s._observed_at >= f.floor_at
                  AND (p.act IN ('first', 'born', 'deleting', 'gone') OR p.row_id IS NULL AND p.act = 'skip')"""
        )

    @cached_property
    def reread(self) -> Statement:
        return self._make(
            """WITH asked AS (
                    INSERT INTO crm_assets.inbox (connection, event_id, object, record_id, change, reason)
                    SELECT {connection}, 'reread:' || gen_random_uuid(), {object}, p.id, 'reread', 'apply'
                      FROM crm_assets_pick p
                     WHERE p.act = 'reread' OR p.tied AND p.act IN ('write', 'first', 'same', 'born') RETURNING 1)
               SELECT count(*), CASE WHEN count(*) > 0
                                     THEN pg_notify('crm_assets_inbox', {connection})::text END FROM asked"""
        )

    @cached_property
    def consume(self) -> Statement:
        """Only rows that the batch saw: one that was committed meanwhile stays for the next pass. So does what was
        read later than a read that found nothing: it may be an undelete."""
        return self._make(
            f"""DELETE FROM {{stage}} s USING (
                    SELECT unnest(p.seqs) AS seq FROM crm_assets_pick p
                     WHERE p.act IN ('write', 'first', 'same', 'skip', 'reread', 'born', 'deleting')
                        OR NOT p.eligible
                    UNION ALL
                    SELECT o._seq FROM crm_assets_pick p
                      {_CHOSEN}
                      JOIN {{stage}} o ON o._seq = ANY (p.seqs)
                     WHERE p.act = 'gone' AND (s._version IS NOT NULL OR o._observed_at <= s._observed_at)) d
                WHERE s._seq = d.seq"""
        )

    @cached_property
    def counts(self) -> Statement:
        return self._make(
            """SELECT count(*) FILTER (WHERE act = 'born'),
                      count(*) FILTER (WHERE act IN ('write', 'first')),
                      count(*) FILTER (WHERE act IN ('same', 'skip', 'deleting', 'gone') OR NOT eligible),
                      count(*) FILTER (WHERE act = 'reread'),
                      array_agg(id ORDER BY id) FILTER (WHERE eligible AND deleted AND act IS NULL),
                      array_agg(id ORDER BY id) FILTER (WHERE act = 'lift'),
                      array_agg(id) FILTER (WHERE act IN ('born', 'write', 'first', 'gone')),
                      count(*) FILTER (WHERE act = 'reread' OR tied),
                      pg_relation_size('crm_assets_pick') > 262144
                 FROM crm_assets_pick"""
        )
