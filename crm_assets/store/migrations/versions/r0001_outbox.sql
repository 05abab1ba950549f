-- The product's writes as data. Rows are made by the capture triggers, in the product's own transaction.
CREATE TABLE crm_assets.outbox (
    seq             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    connection      text NOT NULL,
    object          text NOT NULL,
    op              text NOT NULL CHECK (op IN ('create', 'update', 'delete', 'undelete', 'merge')),
    row_id          uuid NOT NULL,
    id              text,
    base            jsonb,
    new             jsonb,
    theirs          jsonb,
    theirs_version  text,
    -- Per field the version that first had the value in theirs: an edit of another field makes it no newer.
    theirs_since    jsonb,
    state           text NOT NULL DEFAULT 'pending' CHECK (state IN
                    ('pending', 'sending', 'confirmed', 'rejected', 'conflict', 'unknown', 'superseded', 'discarded')),
    reason          text,
    waiting_for     text,
    -- The guard that holds a deletion; nobody claims it meanwhile.
    guard_id        bigint,
    attempts        integer NOT NULL DEFAULT 0,
    next_try_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    claimed_by      text,
    -- The run or the process that claimed it last; it stays when the claim has ended.
    sent_by         text,
    lease_until     timestamptz,
    sent_at         timestamptz,
    -- When it was last claimed, and until when a record that appears in the CRM may be what this create made.
    claimed_at      timestamptz,
    echo_until      timestamptz,
    -- The row whose id a reference of this write waits for.
    waits_on        uuid,
    absorbed_by     bigint,
    -- A write with mixed outcomes is split per field; the part keeps the place of the whole in the record's order.
    split_of        bigint,
    place           bigint NOT NULL GENERATED ALWAYS AS (coalesce(split_of, seq)) STORED,
    actor           text NOT NULL DEFAULT session_user,
    txid            xid8 NOT NULL DEFAULT pg_current_xact_id(),
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    settled_at      timestamptz
);
-- What a product's statement inserts is in as few of them as can be: each costs it as much as one of its own table's.
-- In the order of claims, which no other index has.
CREATE INDEX outbox_pending ON crm_assets.outbox (connection, object, place, seq) WHERE state = 'pending';
-- A record's writes: those under way, and all. The row_id first, since it decides the comparisons.
CREATE INDEX outbox_unsettled ON crm_assets.outbox (row_id, object, connection, seq)
    WHERE state IN ('pending', 'sending', 'unknown', 'conflict');
CREATE INDEX outbox_record ON crm_assets.outbox (row_id, object, connection, seq);
CREATE UNIQUE INDEX outbox_sending ON crm_assets.outbox (connection, object, row_id) WHERE state = 'sending';
CREATE INDEX outbox_unknown ON crm_assets.outbox (connection, object, seq) WHERE state = 'unknown';
CREATE INDEX outbox_conflicts ON crm_assets.outbox (connection, object, row_id) WHERE state = 'conflict';
CREATE INDEX outbox_rejected ON crm_assets.outbox (connection, object, seq) WHERE state = 'rejected';
CREATE INDEX outbox_creating ON crm_assets.outbox (connection, object, id)
    WHERE op = 'create' AND state IN ('sending', 'unknown', 'confirmed');
CREATE INDEX outbox_waits_on ON crm_assets.outbox (waits_on) WHERE waits_on IS NOT NULL;
CREATE INDEX outbox_deletes ON crm_assets.outbox (connection, object, seq)
    WHERE op = 'delete' AND state IN ('pending', 'sending', 'unknown');
-- Rows come in the order of their time.
CREATE INDEX outbox_created ON crm_assets.outbox USING brin (created_at);

-- The writes of a connection or an object that have not arrived, found by the index of each state.
CREATE VIEW crm_assets.unarrived AS
SELECT * FROM crm_assets.outbox WHERE state = 'pending'
UNION ALL SELECT * FROM crm_assets.outbox WHERE state = 'sending'
UNION ALL SELECT * FROM crm_assets.outbox WHERE state = 'unknown'
UNION ALL SELECT * FROM crm_assets.outbox WHERE state = 'conflict'
UNION ALL SELECT * FROM crm_assets.outbox WHERE state = 'rejected';

-- Who changed what, when, from what to what, in both directions.
CREATE VIEW crm_assets.audit AS
SELECT c.at, 'crm' AS origin, c.connection, c.object, c.row_id, c.id, c.op, c.old, c.new, 'applied' AS state,
       NULL::text AS reason, NULL::text AS actor, c.process, c.version, c.source, NULL::timestamptz AS settled_at,
       c.change_id, NULL::bigint AS seq
  FROM crm_assets.change c
UNION ALL
SELECT o.created_at, 'product', o.connection, o.object, o.row_id, o.id, o.op, o.base, o.new, o.state,
       o.reason, o.actor, o.sent_by, o.theirs_version, NULL, o.settled_at, NULL, o.seq
  FROM crm_assets.outbox o
 ORDER BY at;

-- Which state may follow which. A settled row stays what it is, except that a person may retry or discard a
-- rejected one.
CREATE FUNCTION crm_assets.check_outbox_transition() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (OLD.state, NEW.state) NOT IN (
        ('pending', 'sending'), ('pending', 'superseded'), ('pending', 'discarded'), ('pending', 'conflict'),
        ('pending', 'rejected'),
        ('sending', 'confirmed'), ('sending', 'rejected'), ('sending', 'conflict'), ('sending', 'unknown'),
        ('sending', 'pending'), ('sending', 'discarded'),
        ('unknown', 'confirmed'), ('unknown', 'pending'), ('unknown', 'conflict'), ('unknown', 'rejected'),
        ('unknown', 'discarded'),
        ('conflict', 'pending'), ('conflict', 'discarded'), ('conflict', 'confirmed'), ('conflict', 'superseded'),
        ('rejected', 'pending'), ('rejected', 'discarded'))
    THEN
        RAISE EXCEPTION 'outbox row % is % and cannot become %', OLD.seq, OLD.state, NEW.state;
    END IF;
    IF NEW.state IN ('confirmed', 'rejected', 'superseded', 'discarded') THEN
        NEW.settled_at := clock_timestamp();
        NEW.waiting_for := NULL;
        NEW.waits_on := NULL;
    ELSE
        NEW.settled_at := NULL;
    END IF;
    IF NEW.state <> 'sending' THEN
        NEW.claimed_by := NULL;
        NEW.lease_until := NULL;
    END IF;
    RETURN NEW;
END $$;
-- The two steps of every write that goes well are allowed, and complete as the engine makes them: asking the function
-- about each would cost more than the rest of the step.
CREATE TRIGGER outbox_transition BEFORE UPDATE OF state ON crm_assets.outbox
    FOR EACH ROW WHEN (
        OLD.state IS DISTINCT FROM NEW.state
        AND NOT (OLD.state = 'pending' AND NEW.state = 'sending' AND NEW.settled_at IS NULL)
        AND NOT (OLD.state = 'sending' AND NEW.state = 'confirmed' AND NEW.settled_at IS NOT NULL
                 AND NEW.waiting_for IS NULL AND NEW.waits_on IS NULL
                 AND NEW.claimed_by IS NULL AND NEW.lease_until IS NULL))
    EXECUTE FUNCTION crm_assets.check_outbox_transition();

-- Ends a product's statement that changes what it may not, from within the capture's own.
CREATE FUNCTION crm_assets.refuse_change(p_table text, p_column text, p_why text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'column "%" of % cannot be changed here: %', p_column, p_table, p_why;
END $$;
