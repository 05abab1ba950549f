-- What a person calls. SECURITY DEFINER with a fixed search_path: the writer role may call them and nothing more.

-- Tell apply to do the mirror's part of an outbox row that changed its state.
CREATE FUNCTION crm_assets.reply(p_seq bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE o crm_assets.outbox;
BEGIN
    SELECT * INTO STRICT o FROM crm_assets.outbox WHERE seq = p_seq;
    EXECUTE format('INSERT INTO %I.%I (_source, _observed_at, _outbox, _deleted, id)
                    VALUES (''reply'', clock_timestamp(), $1, false, $2)', o.connection || '_stage', o.object)
        USING o.seq, o.id;
    PERFORM pg_notify('crm_assets_stage', o.connection);
END $$;

-- Autovacuum counts a stage when it comes by, mostly an empty one, and plans for thousands of rows are then made for
-- none: a batch of 5,000 takes many seconds. What is counted too low, or never was, is counted now, two columns of it.
CREATE FUNCTION crm_assets.count_stage(p_connection text, p_object text, p_rows bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE stage regclass := format('%I.%I', p_connection || '_stage', p_object);
BEGIN
    IF EXISTS (SELECT FROM pg_class c WHERE c.oid = stage AND c.reltuples * 2 < p_rows) THEN
        EXECUTE format('ANALYZE %s (_seq, id)', stage);
    END IF;
END $$;

-- Ask for a fresh read of a record. The re-read also ends the record's floor and rebases what waits behind it.
CREATE FUNCTION crm_assets.ask_reread(p_connection text, p_object text, p_id text, p_reason text) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO crm_assets.inbox (connection, event_id, object, record_id, change, reason)
    VALUES (p_connection, 'reread:' || gen_random_uuid(), p_object, p_id, 'reread', p_reason);
    SELECT pg_notify('crm_assets_inbox', p_connection);
$$;

-- Nothing read before this moment counts for the record any more.
CREATE FUNCTION crm_assets.raise_floor(p_connection text, p_object text, p_id text, p_fields text[]) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO crm_assets.floor AS f (connection, object, id, floor_at, fields)
    VALUES (p_connection, p_object, p_id, clock_timestamp(), p_fields)
    ON CONFLICT (connection, object, id) DO UPDATE
        SET floor_at = excluded.floor_at,
            fields = ARRAY(SELECT DISTINCT unnest(f.fields || excluded.fields));
$$;

CREATE FUNCTION crm_assets.keys(p jsonb) RETURNS text[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(array_agg(k), '{}') FROM jsonb_object_keys(coalesce(p, '{}'::jsonb)) k
$$;

CREATE FUNCTION crm_assets.retry(seq bigint) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE o crm_assets.outbox; later bigint;
BEGIN
    SELECT * INTO o FROM crm_assets.outbox x WHERE x.seq = retry.seq FOR UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'there is no outbox row %', retry.seq; END IF;
    IF o.state <> 'rejected' AND (o.state <> 'unknown' OR o.waiting_for IS DISTINCT FROM 'a person') THEN
        RAISE EXCEPTION 'outbox row % is %; only a rejected write, or one that waits for a person, can be retried',
            o.seq, o.state;
    END IF;
    SELECT min(x.seq) INTO later FROM crm_assets.outbox x
     WHERE x.connection = o.connection AND x.object = o.object AND x.row_id = o.row_id
       AND (x.place, x.seq) > (o.place, o.seq)
       AND x.state NOT IN ('superseded', 'discarded')
       AND (x.op <> 'update' OR o.op <> 'update' OR x.new ?| crm_assets.keys(o.new));
    IF later IS NOT NULL THEN
        RAISE EXCEPTION 'outbox row % cannot be retried: the later write % concerns the same fields', o.seq, later;
    END IF;
    UPDATE crm_assets.outbox x
       SET state = 'pending', reason = NULL, waiting_for = NULL, attempts = 0, next_try_at = clock_timestamp()
     WHERE x.seq = o.seq;
    PERFORM crm_assets.reply(o.seq);
    PERFORM pg_notify('crm_assets_outbox', o.connection);
    RETURN 'pending';
END $$;

-- A create without a reply did arrive: a person has found its record in the CRM and says which one it is.
CREATE FUNCTION crm_assets.confirm(seq bigint, id text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE o crm_assets.outbox;
BEGIN
    SELECT * INTO o FROM crm_assets.outbox x WHERE x.seq = confirm.seq FOR UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'there is no outbox row %', confirm.seq; END IF;
    IF o.op <> 'create' OR o.state <> 'unknown' THEN
        RAISE EXCEPTION 'outbox row % is % of op %; only an unknown create can be confirmed', o.seq, o.state, o.op;
    END IF;
    IF EXISTS (SELECT FROM crm_assets.outbox x
                WHERE x.connection = o.connection AND x.object = o.object AND x.op = 'create'
                  AND x.state = 'confirmed' AND x.id = confirm.id) THEN
        RAISE EXCEPTION 'record % is that of another create', confirm.id;
    END IF;
    UPDATE crm_assets.outbox x
       SET state = 'confirmed', id = confirm.id, reason = 'confirmed by ' || session_user WHERE x.seq = o.seq;
    PERFORM crm_assets.reply(o.seq);
    PERFORM crm_assets.raise_floor(o.connection, o.object, confirm.id, crm_assets.keys(o.new));
    PERFORM crm_assets.ask_reread(o.connection, o.object, confirm.id, 'confirmed create');
    RETURN 'confirmed';
END $$;

CREATE FUNCTION crm_assets.discard(seq bigint) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE o crm_assets.outbox;
BEGIN
    SELECT * INTO o FROM crm_assets.outbox x WHERE x.seq = discard.seq FOR UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'there is no outbox row %', discard.seq; END IF;
    IF o.state NOT IN ('pending', 'rejected', 'conflict', 'unknown') THEN
        RAISE EXCEPTION 'outbox row % is % and cannot be discarded', o.seq, o.state;
    END IF;
    UPDATE crm_assets.outbox x SET state = 'discarded', reason = coalesce(x.reason, 'discarded by ' || session_user)
     WHERE x.seq = o.seq;
    UPDATE crm_assets.conflict c
       SET state = 'resolved', resolution = 'discarded', resolved_at = clock_timestamp(), resolved_by = session_user
     WHERE c.seq = o.seq AND c.state = 'open';
    PERFORM crm_assets.reply(o.seq);
    IF o.id IS NOT NULL THEN
        PERFORM crm_assets.raise_floor(o.connection, o.object, o.id, crm_assets.keys(o.new));
        PERFORM crm_assets.ask_reread(o.connection, o.object, o.id, 'discarded write');
    END IF;
    RETURN 'discarded';
END $$;

-- Settle an open conflict: 'product' sends our value over theirs, 'crm' puts theirs in the mirror. Each field of the
-- write is decided for itself; the write goes on when its last field is.
CREATE FUNCTION crm_assets.resolve(conflict_id bigint, winner text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE c crm_assets.conflict; o crm_assets.outbox; mine jsonb; undone jsonb; lost bigint;
BEGIN
    IF winner NOT IN ('crm', 'product') THEN
        RAISE EXCEPTION 'resolve takes ''crm'' or ''product'', not %', quote_literal(winner);
    END IF;
    SELECT * INTO c FROM crm_assets.conflict x WHERE x.conflict_id = resolve.conflict_id;
    IF NOT FOUND THEN RAISE EXCEPTION 'there is no conflict %', resolve.conflict_id; END IF;
    SELECT * INTO STRICT o FROM crm_assets.outbox x WHERE x.seq = c.seq FOR UPDATE;
    SELECT * INTO c FROM crm_assets.conflict x WHERE x.conflict_id = resolve.conflict_id FOR UPDATE;
    IF c.state <> 'open' OR o.state <> 'conflict' THEN
        RAISE EXCEPTION 'conflict % is already settled', c.conflict_id;
    END IF;
    UPDATE crm_assets.conflict x
       SET state = 'resolved', resolution = winner, resolved_at = clock_timestamp(), resolved_by = session_user
     WHERE x.conflict_id = c.conflict_id;
    IF EXISTS (SELECT FROM crm_assets.conflict x WHERE x.seq = o.seq AND x.state = 'open') THEN
        RETURN 'conflict';
    END IF;
    IF o.op <> 'update' THEN
        IF EXISTS (SELECT FROM crm_assets.conflict x WHERE x.seq = o.seq AND x.resolution = 'crm') THEN
            RETURN crm_assets.discard(o.seq);
        END IF;
        UPDATE crm_assets.outbox x SET state = 'pending', base = coalesce(x.base, '{}') || coalesce(x.theirs, '{}'),
               next_try_at = clock_timestamp(), reason = NULL WHERE x.seq = o.seq;
        PERFORM pg_notify('crm_assets_outbox', o.connection);
        RETURN 'pending';
    END IF;
    SELECT jsonb_object_agg(x.field, x.theirs) FILTER (WHERE x.resolution = 'crm') INTO undone
      FROM crm_assets.conflict x WHERE x.seq = o.seq;
    mine := o.new - crm_assets.keys(undone);
    IF mine = '{}'::jsonb THEN RETURN crm_assets.discard(o.seq); END IF;
    IF undone IS NOT NULL THEN
        -- The fields the CRM won leave the write and are kept as a discarded row of their own.
        INSERT INTO crm_assets.outbox
            (connection, object, op, row_id, id, base, new, theirs, theirs_version, state, reason, actor, txid,
             created_at, settled_at, sent_by, split_of)
        VALUES (o.connection, o.object, o.op, o.row_id, o.id, o.base, o.new - crm_assets.keys(mine), o.theirs,
                o.theirs_version, 'discarded', 'conflict resolved for the CRM', o.actor, o.txid,
                o.created_at, clock_timestamp(), o.sent_by, o.place)
        RETURNING outbox.seq INTO lost;
        PERFORM crm_assets.reply(lost);
        IF o.id IS NOT NULL THEN
            PERFORM crm_assets.raise_floor(o.connection, o.object, o.id, crm_assets.keys(undone));
            PERFORM crm_assets.ask_reread(o.connection, o.object, o.id, 'conflict resolved for the CRM');
        END IF;
    END IF;
    UPDATE crm_assets.outbox x
       SET state = 'pending', new = mine, reason = NULL, next_try_at = clock_timestamp(),
           base = (SELECT jsonb_object_agg(k, coalesce(o.theirs, '{}') -> k) FROM jsonb_object_keys(mine) k)
     WHERE x.seq = o.seq;
    PERFORM pg_notify('crm_assets_outbox', o.connection);
    RETURN 'pending';
END $$;

-- Let through the deletions that a guard holds, all that wait at this moment.
CREATE FUNCTION crm_assets.approve(guard_id bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE g crm_assets.guard; last bigint; let_through bigint;
BEGIN
    SELECT * INTO g FROM crm_assets.guard x WHERE x.guard_id = approve.guard_id FOR UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'there is no guard %', guard_id; END IF;
    IF g.state <> 'open' THEN RAISE EXCEPTION 'guard % is already %', g.guard_id, g.state; END IF;
    IF g.direction = 'in' THEN
        EXECUTE format('WITH freed AS (UPDATE %1$I.%2$I SET _load = NULL WHERE _load = -$1 RETURNING id)
                        SELECT count(DISTINCT id), (SELECT max(_seq) FROM %1$I.%2$I) FROM freed',
                       g.connection || '_stage', g.object)
            INTO let_through, last USING g.guard_id;
        PERFORM pg_notify('crm_assets_stage', g.connection);
    ELSIF g.direction = 'repair' THEN
        INSERT INTO crm_assets.inbox (connection, event_id, object, record_id, change, reason)
        SELECT g.connection, 'reread:' || gen_random_uuid(), g.object, d.id, 'reread', 'repair approved'
          FROM (SELECT DISTINCT x.id FROM crm_assets.drift x
                 WHERE x.connection = g.connection AND x.object = g.object AND x.state = 'open'
                   AND x.kind IN ('missing', 'extra', 'stale', 'differs', 'wrong_reference')) d;
        GET DIAGNOSTICS let_through = ROW_COUNT;
        PERFORM pg_notify('crm_assets_inbox', g.connection);
    ELSE
        UPDATE crm_assets.outbox o SET guard_id = NULL, waiting_for = NULL
         WHERE o.connection = g.connection AND o.object = g.object AND o.state = 'pending'
           AND o.guard_id = g.guard_id;
        GET DIAGNOSTICS let_through = ROW_COUNT;
        SELECT max(seq) INTO last FROM crm_assets.outbox WHERE connection = g.connection AND object = g.object;
        PERFORM pg_notify('crm_assets_outbox', g.connection);
    END IF;
    UPDATE crm_assets.guard x
       SET state = 'approved', up_to = last, approved_at = clock_timestamp(), approved_by = session_user
     WHERE x.guard_id = g.guard_id;
    RETURN let_through;
END $$;

-- Take back the product's deletions that a guard holds: the rows return with their row_ids.
CREATE FUNCTION crm_assets.decline(guard_id bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE g crm_assets.guard; taken_back bigint;
BEGIN
    SELECT * INTO g FROM crm_assets.guard x WHERE x.guard_id = decline.guard_id FOR UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'there is no guard %', guard_id; END IF;
    IF g.state <> 'open' THEN RAISE EXCEPTION 'guard % is already %', g.guard_id, g.state; END IF;
    IF g.direction = 'in' THEN
        RAISE EXCEPTION 'guard % holds deletions made in the CRM', g.guard_id
            USING HINT = 'Undelete the records in the CRM, then approve it: an undeleted record is never removed.';
    END IF;
    SELECT count(crm_assets.discard(o.seq)) INTO taken_back
      FROM (SELECT x.seq FROM crm_assets.outbox x
             WHERE x.connection = g.connection AND x.object = g.object AND x.state = 'pending'
               AND x.guard_id = g.guard_id ORDER BY x.seq) o;
    UPDATE crm_assets.guard x
       SET state = 'declined', approved_at = clock_timestamp(), approved_by = session_user
     WHERE x.guard_id = g.guard_id;
    RETURN taken_back;
END $$;

CREATE FUNCTION crm_assets.pause(connection text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO crm_assets.connection_state (connection, paused, changed_by) VALUES ($1, true, session_user)
    ON CONFLICT (connection) DO UPDATE
        SET paused = true, changed_at = clock_timestamp(), changed_by = excluded.changed_by
$$;

CREATE FUNCTION crm_assets.resume(connection text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO crm_assets.connection_state (connection, paused, changed_by) VALUES ($1, false, session_user)
    ON CONFLICT (connection) DO UPDATE
        SET paused = false, changed_at = clock_timestamp(), changed_by = excluded.changed_by;
    SELECT pg_notify('crm_assets_outbox', $1);
$$;

REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA crm_assets FROM PUBLIC;
-- The default of every row_id: whoever may insert a row may have one.
GRANT EXECUTE ON FUNCTION crm_assets.uuidv7 TO PUBLIC;
GRANT USAGE ON SCHEMA crm_assets TO crm_assets_reader, crm_assets_writer, crm_assets_sync;
GRANT SELECT ON ALL TABLES IN SCHEMA crm_assets TO crm_assets_reader, crm_assets_writer;
GRANT EXECUTE ON FUNCTION crm_assets.retry, crm_assets.confirm, crm_assets.discard, crm_assets.resolve, crm_assets.approve,
    crm_assets.decline, crm_assets.pause, crm_assets.resume
    TO crm_assets_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA crm_assets TO crm_assets_sync;
GRANT EXECUTE ON FUNCTION crm_assets.keys, crm_assets.ask_reread, crm_assets.raise_floor, crm_assets.count_stage
    TO crm_assets_sync;
