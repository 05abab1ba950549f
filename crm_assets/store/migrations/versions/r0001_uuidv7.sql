-- UUIDs in the order of time (RFC 9562, version 7). PostgreSQL 18 makes them itself; the call is inlined there. Before,
-- 48 bits are the milliseconds of the Unix time, the 12 bits of rand_a the fraction of a millisecond (method 3 of
-- section 6.2), and the 62 bits of rand_b are random.
DO $migration$
BEGIN
    IF current_setting('server_version_num')::int >= 180000 THEN
        CREATE FUNCTION crm_assets.uuidv7() RETURNS uuid
        LANGUAGE sql VOLATILE PARALLEL SAFE AS 'SELECT pg_catalog.uuidv7()';
    ELSE
        CREATE FUNCTION crm_assets.uuidv7() RETURNS uuid
        LANGUAGE sql VOLATILE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
            SELECT encode(
                       substring(int8send(t.us / 1000) FROM 3)
                       || set_byte(set_byte(r.bytes, 0, 112 + (t.fraction >> 8)), 1, t.fraction & 255), 'hex')::uuid
              FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS us) c
             CROSS JOIN LATERAL (SELECT c.us, (c.us % 1000 * 4096 / 1000)::int AS fraction) t
             -- The variant is that of version 4 as well.
             CROSS JOIN (SELECT substring(uuid_send(gen_random_uuid()) FROM 7) AS bytes) r
        $$;
    END IF;
END $migration$;
