-- Everything that is known about a connection besides its records. Names of connections and objects are the
-- mirror's (schema and table), times are the database's clock.

-- The stored describe: what the CRM said its objects look like, and the column chosen for each field.
CREATE TABLE crm_assets.object (
    connection    text NOT NULL,
    object        text NOT NULL,
    name          text NOT NULL,
    writable      boolean NOT NULL,
    described     jsonb NOT NULL,
    columns       jsonb NOT NULL,
    -- Of described: who works with another one has to load it anew.
    fingerprint   text NOT NULL,
    -- Columns that the CRM calculates; what they follow, as [{column, objects, field, dated}]; whether any sums up records
    -- that refer to the object's. Kept apart, because every apply asks.
    calculated    text[] NOT NULL DEFAULT '{}',
    follows       jsonb NOT NULL DEFAULT '[]',
    rolls_up      boolean NOT NULL DEFAULT false,
    described_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (connection, object)
);

-- What is still to be read for rows that are there already: a column that came new, or, as '*', the rows that a changed
-- `where` brings in. place is where the read goes on, begun_at when it began. A refresh reads a column again that had its
-- values: what the CRM calculates changes without a trace.
CREATE TABLE crm_assets.fill (
    connection    text NOT NULL,
    object        text NOT NULL,
    "column"      text NOT NULL,
    refresh       boolean NOT NULL DEFAULT false,
    place         text,
    rows          bigint NOT NULL DEFAULT 0,
    asked_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    begun_at      timestamptz,
    done_at       timestamptz,
    PRIMARY KEY (connection, object, "column")
);

-- How the CRM's objects, or their choice in defs.yaml, have changed since they were described first.
CREATE TABLE crm_assets.schema_change (
    change_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connection    text NOT NULL,
    object        text NOT NULL,
    field         text NOT NULL,
    kind          text NOT NULL,
    was           text NOT NULL,
    now           text NOT NULL,
    "column"      text NOT NULL,
    at            timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX schema_change_object ON crm_assets.schema_change (connection, object, at);

-- How far each object has been read; moved only by apply, by compare-and-set.
CREATE TABLE crm_assets.cursor (
    connection      text NOT NULL,
    object          text NOT NULL,
    cursor          text,
    moved_at        timestamptz,
    -- When a read brought a change last.
    changed_at      timestamptz,
    lease_owner     text,
    lease_until     timestamptz,
    complete        boolean,
    complete_as_of  timestamptz,
    -- Below this version both ends were equal when they were compared last.
    equal_to        timestamptz,
    -- The last comparison of every field, and how far an unfinished one has come.
    compared_at      timestamptz,
    compare_began    timestamptz,
    compared_to      timestamptz,
    compare_suspects text[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (connection, object)
);

-- One read of a window, or a part of it: its rows are in the stage table under load_id and count once the load is
-- landed. place is where the next part goes on; the part without one ends the window.
CREATE TABLE crm_assets.load (
    load_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connection   text NOT NULL,
    object       text NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('full', 'incremental', 'backfill', 'repair')),
    low          text,
    high         text,
    from_cursor  text,
    owner        text NOT NULL,
    state        text NOT NULL DEFAULT 'landing' CHECK (state IN ('landing', 'landed', 'applied', 'abandoned')),
    rows         bigint,
    place        text,
    observed_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    landed_at    timestamptz,
    applied_at   timestamptz
);
CREATE INDEX load_open ON crm_assets.load (connection, object) WHERE state IN ('landing', 'landed');

-- Hints that a record changed, from the vendor's events or from ourselves; each one is a re-read by id.
CREATE TABLE crm_assets.inbox (
    seq          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connection   text NOT NULL,
    event_id     text NOT NULL,
    object       text NOT NULL,
    record_id    text NOT NULL,
    change       text NOT NULL,
    at           timestamptz,
    state        text NOT NULL DEFAULT 'pending'
                 CHECK (state IN ('pending', 'claimed', 'done', 'failed', 'ignored')),
    attempts     integer NOT NULL DEFAULT 0,
    next_try_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    claimed_by   text,
    lease_until  timestamptz,
    reason       text,
    received_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    done_at      timestamptz,
    UNIQUE (connection, event_id)
);
CREATE INDEX inbox_open ON crm_assets.inbox (connection, object, next_try_at) WHERE state IN ('pending', 'claimed');
CREATE INDEX inbox_pushed ON crm_assets.inbox (connection, received_at) WHERE change <> 'reread';

-- How far each stream of a vendor has been followed. The place is the vendor's own, null before there is one.
CREATE TABLE crm_assets.stream (
    connection  text NOT NULL,
    topic       text NOT NULL,
    place       bytea,
    heard_at    timestamptz,
    trouble     text,
    PRIMARY KEY (connection, topic)
);

-- Objects to be read again, because nobody could say which of their records changed. Settled by any read that covers
-- it; "until" is the vendor's time of the change.
CREATE TABLE crm_assets.sweep (
    connection   text NOT NULL,
    object       text NOT NULL,
    whole        boolean NOT NULL,
    until        timestamptz,
    reason       text NOT NULL,
    asked_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts     integer NOT NULL DEFAULT 0,
    next_try_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (connection, object)
);

-- A deleted record: its row_id for ever, its last values, and who deleted it.
CREATE TABLE crm_assets.tombstone (
    connection   text NOT NULL,
    object       text NOT NULL,
    row_id       uuid NOT NULL,
    id           text,
    "values"     jsonb NOT NULL,
    deleted_by   text NOT NULL CHECK (deleted_by IN ('crm', 'product')),
    actor        text,
    version      text,
    observed_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    buried_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- A person let it through: the guard does not count it with later ones.
    approved     boolean NOT NULL DEFAULT false,
    PRIMARY KEY (connection, object, row_id)
);
CREATE INDEX tombstone_buried ON crm_assets.tombstone (connection, object, buried_at);
CREATE UNIQUE INDEX tombstone_id ON crm_assets.tombstone (connection, object, id) WHERE id IS NOT NULL;
CREATE INDEX tombstone_unborn ON crm_assets.tombstone (connection, object) WHERE id IS NULL;

-- What apply changed on behalf of the CRM: the columns that changed, and which process took it in. A first load is one
-- row without a record.
CREATE TABLE crm_assets.change (
    change_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connection   text NOT NULL,
    object       text NOT NULL,
    op           text NOT NULL CHECK (op IN ('create', 'update', 'delete', 'undelete', 'merge', 'load')),
    row_id       uuid,
    id           text,
    old          jsonb,
    new          jsonb,
    version      text,
    source       text,
    process      text NOT NULL,
    at           timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- Rows come in the order of their time.
CREATE INDEX change_at ON crm_assets.change USING brin (at);
CREATE INDEX change_record ON crm_assets.change (row_id);

-- A record we wrote: reads begun before floor_at are older than our own write and are ignored for it. The first
-- read begun after it is applied whatever its version, and gives the waiting writes of these fields their new base.
CREATE TABLE crm_assets.floor (
    connection  text NOT NULL,
    object      text NOT NULL,
    id          text NOT NULL,
    floor_at    timestamptz NOT NULL,
    fields      text[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (connection, object, id)
);

-- One row per field on which both sides changed.
CREATE TABLE crm_assets.conflict (
    conflict_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connection     text NOT NULL,
    object         text NOT NULL,
    row_id         uuid NOT NULL,
    id             text,
    seq            bigint NOT NULL,
    field          text NOT NULL,
    base           jsonb,
    ours           jsonb,
    theirs         jsonb,
    theirs_version text,
    policy         text NOT NULL,
    state          text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'resolved')),
    resolution     text,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    resolved_at    timestamptz,
    resolved_by    text
);
CREATE UNIQUE INDEX conflict_open ON crm_assets.conflict (seq, field) WHERE state = 'open';

-- What waits for a person: unusually many deletions, of the CRM ('in') or of the product ('out'), or repairs.
CREATE TABLE crm_assets.guard (
    guard_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connection   text NOT NULL,
    object       text NOT NULL,
    direction    text NOT NULL CHECK (direction IN ('in', 'out', 'repair')),
    rows         bigint NOT NULL,
    records      bigint NOT NULL,
    state        text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'approved', 'declined')),
    up_to        bigint,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    approved_at  timestamptz,
    approved_by  text
);
CREATE UNIQUE INDEX guard_open ON crm_assets.guard (connection, object, direction) WHERE state = 'open';

-- What the CRM said about merges, by id; open until the mirror has followed.
CREATE TABLE crm_assets.merge (
    connection   text NOT NULL,
    object       text NOT NULL,
    id           text NOT NULL,
    survivor_id  text NOT NULL,
    observed_at  timestamptz NOT NULL,
    done_at      timestamptz,
    PRIMARY KEY (connection, object, id)
);
CREATE INDEX merge_open ON crm_assets.merge (connection, object) WHERE done_at IS NULL;
CREATE INDEX merge_survivor ON crm_assets.merge (connection, object, survivor_id);

-- A row_id that is no row's any more, and the row that stands for it: the other one of a merge in the CRM, or of a
-- record that came to two rows. Chains are resolved; ``survivor`` is null while no mirror row has ``survivor_id``.
CREATE TABLE crm_assets.alias (
    connection    text NOT NULL,
    object        text NOT NULL,
    row_id        uuid NOT NULL,
    id            text,
    survivor      uuid,
    survivor_id   text,
    merged_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (connection, object, row_id)
);
CREATE INDEX alias_id ON crm_assets.alias (connection, id);
CREATE INDEX alias_survivor_id ON crm_assets.alias (connection, object, survivor_id);
CREATE INDEX alias_waiting ON crm_assets.alias (connection, object) WHERE survivor IS NULL;

-- Differences between both ends that are known and not mended yet, set-aside records among them.
CREATE TABLE crm_assets.drift (
    drift_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connection   text NOT NULL,
    object       text NOT NULL,
    id           text NOT NULL,
    kind         text NOT NULL,
    field        text NOT NULL DEFAULT '',
    cause        text,
    reason       text,
    state        text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed')),
    found_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed_at    timestamptz
);
CREATE UNIQUE INDEX drift_open ON crm_assets.drift (connection, object, id, kind, field) WHERE state = 'open';

-- The budgets of a connection: the vendor's limits as documented, and as its replies tell them.
CREATE TABLE crm_assets.quota (
    connection    text NOT NULL,
    name          text NOT NULL,
    used          bigint NOT NULL,
    "limit"       bigint NOT NULL,
    updated_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The rolling window; null: so many calls at once.
    period        interval,
    -- As configured: a share of the limit below 1, or a number of calls; and what that is of the limit as it is now.
    reserve       double precision NOT NULL DEFAULT 0,
    kept          bigint NOT NULL GENERATED ALWAYS AS
                      (floor(CASE WHEN reserve < 1 THEN reserve * "limit" ELSE reserve END)::bigint) STORED,
    -- Calls of other apps, as far as the vendor's numbers of seen_at show them; negative: ours that count no more.
    others        bigint NOT NULL DEFAULT 0,
    seen_at       timestamptz,
    blocked_until timestamptz,
    -- When a call was let through last only to hear whether there is something left again.
    probed_at     timestamptz,
    PRIMARY KEY (connection, name)
);

-- Calls leased to a process. gone_at: when the last of them must have ended, whatever became of the process.
CREATE TABLE crm_assets.quota_block (
    block_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connection  text NOT NULL,
    name        text NOT NULL,
    lane        text NOT NULL,
    owner       text NOT NULL,
    calls       bigint NOT NULL,
    taken_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    gone_at     timestamptz NOT NULL
);
CREATE INDEX quota_block_budget ON crm_assets.quota_block (connection, name);

-- Calls that ended and still count, until free_at.
CREATE TABLE crm_assets.quota_spent (
    connection  text NOT NULL,
    name        text NOT NULL,
    lane        text NOT NULL,
    free_at     timestamptz NOT NULL,
    calls       bigint NOT NULL,
    PRIMARY KEY (connection, name, lane, free_at)
);

-- Which lanes ask, and how long a long window has nothing for them.
CREATE TABLE crm_assets.quota_lane (
    connection    text NOT NULL,
    name          text NOT NULL,
    lane          text NOT NULL,
    asked_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    denied_until  timestamptz,
    PRIMARY KEY (connection, name, lane)
);

-- How the budgets stand: as the vendor counts, or as we do where it tells nothing or what it told has left the window.
CREATE VIEW crm_assets.quota_usage AS
SELECT q.connection, q.name, q."limit", q.updated_at,
       CASE WHEN q.period IS NULL OR q.seen_at IS NULL THEN greatest(q.used, ours.calls)
            WHEN q.seen_at < clock_timestamp() - q.period THEN ours.calls
            ELSE q.used END AS used
  FROM crm_assets.quota q
 CROSS JOIN LATERAL (
    SELECT (coalesce((SELECT sum(s.calls) FROM crm_assets.quota_spent s
                       WHERE s.connection = q.connection AND s.name = q.name AND s.free_at > clock_timestamp()), 0)
          + coalesce((SELECT sum(b.calls) FROM crm_assets.quota_block b
                       WHERE b.connection = q.connection AND b.name = q.name), 0))::bigint AS calls) ours;

-- What needs a person: told once when it begins and once when it is over.
CREATE TABLE crm_assets.alert (
    connection     text NOT NULL,
    key            text NOT NULL,
    message        text NOT NULL,
    raised_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    told_at        timestamptz,
    cleared_at     timestamptz,
    clear_told_at  timestamptz,
    PRIMARY KEY (connection, key, raised_at)
);
CREATE UNIQUE INDEX alert_open ON crm_assets.alert (connection, key) WHERE cleared_at IS NULL;

-- What the relay did, for Dagster to show; and that it lives.
CREATE TABLE crm_assets.activity (
    seq         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connection  text NOT NULL,
    object      text NOT NULL,
    kind        text NOT NULL,
    counts      jsonb NOT NULL,
    at          timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX activity_connection ON crm_assets.activity (connection, seq);

CREATE TABLE crm_assets.heartbeat (
    process     text PRIMARY KEY,
    kind        text NOT NULL,
    connection  text,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    pid         integer,
    host        text
);

CREATE TABLE crm_assets.connection_state (
    connection  text PRIMARY KEY,
    paused      boolean NOT NULL DEFAULT false,
    changed_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_by  text
);
