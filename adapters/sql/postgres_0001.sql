-- The ledger for several controllers: streams of entries, a lease a shard, one time a model, units of limits,
-- notices on their way, and the rolling record of looks.
-- Times of ours are microseconds since 1970 in UTC; only leases and controllers run on the server's clock.
-- Names are compared byte by byte (COLLATE "C"), so that no locale changes their order.

-- One row: what this schema is, and which installation's.
CREATE TABLE schema_version (
    version      integer NOT NULL,
    installation uuid    NOT NULL DEFAULT gen_random_uuid()
);

CREATE UNIQUE INDEX schema_version_one ON schema_version ((true));

INSERT INTO schema_version (version) VALUES (0); -- whoever runs this file says the number

CREATE TABLE entries (
    model text COLLATE "C" NOT NULL,
    seq   bigint           NOT NULL,
    v     integer          NOT NULL,
    chain text             NOT NULL,
    at    text             NOT NULL,
    kind  text             NOT NULL,
    key   text COLLATE "C",
    actor text             NOT NULL,
    data  text             NOT NULL,
    prev  text             NOT NULL,
    hash  text             NOT NULL,
    PRIMARY KEY (model, seq)
);

CREATE UNIQUE INDEX entries_key ON entries (model, key) WHERE key IS NOT NULL;

-- Whoever writes, and with whatever program: a stream has no gap, no fork and no second past.
CREATE FUNCTION entries_follow() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    head record;
BEGIN
    SELECT seq, hash INTO head FROM entries WHERE model = NEW.model ORDER BY seq DESC LIMIT 1;
    IF NEW.seq <> coalesce(head.seq, 0) + 1 OR NEW.prev <> coalesce(head.hash, repeat('0', 64)) THEN
        RAISE EXCEPTION 'an entry follows the head of its stream'
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'entries_follow';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER entries_follow BEFORE INSERT ON entries FOR EACH ROW EXECUTE FUNCTION entries_follow();

CREATE FUNCTION entries_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'an entry is never changed or removed'
        USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'entries_stay';
END
$$;

CREATE TRIGGER entries_stay BEFORE UPDATE OR DELETE ON entries FOR EACH ROW EXECUTE FUNCTION entries_stay();
CREATE TRIGGER entries_stay_all BEFORE TRUNCATE ON entries FOR EACH STATEMENT EXECUTE FUNCTION entries_stay();

CREATE TABLE leases (
    shard      integer          PRIMARY KEY,
    holder     text COLLATE "C",                    -- NULL: free
    epoch      bigint           NOT NULL DEFAULT 0, -- larger with every change of holder
    expires_at timestamptz      NOT NULL DEFAULT '-infinity',
    seconds    double precision NOT NULL DEFAULT 0, -- with more than that before it, the clock was set back
    claimed_at bigint           NOT NULL DEFAULT 0  -- latest time of a claim, by the controllers' clocks
);

INSERT INTO leases (shard) SELECT generate_series(0, 31);

-- Who runs the loop, so that the shards are shared fairly.
CREATE TABLE controllers (
    holder     text COLLATE "C" PRIMARY KEY,
    expires_at timestamptz      NOT NULL,
    seconds    double precision NOT NULL
);

-- The head's number stands beside the look, so that setting a look can depend on it in one conditional update.
CREATE TABLE agenda (
    model     text COLLATE "C" PRIMARY KEY,
    shard     integer          NOT NULL,
    seq       bigint           NOT NULL,
    next_look bigint                     -- NULL: no time is set
);

CREATE INDEX agenda_next_look ON agenda (next_look, model) INCLUDE (shard) WHERE next_look IS NOT NULL;

-- Units of what is limited: of two that want the same one, the primary key refuses the second.
CREATE TABLE units (
    scope  text COLLATE "C" NOT NULL,
    period text COLLATE "C" NOT NULL, -- empty: in use, and given back afterwards
    n      integer          NOT NULL,
    owner  text COLLATE "C" NOT NULL,
    CONSTRAINT units_place PRIMARY KEY (scope, period, n),
    CONSTRAINT units_owner UNIQUE (scope, period, owner)
);

CREATE INDEX units_in_use ON units (owner) WHERE period = '';

CREATE TABLE outbox (
    position     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id           text COLLATE "C" NOT NULL UNIQUE,
    model        text COLLATE "C" NOT NULL,
    shard        integer          NOT NULL,
    seq          bigint           NOT NULL,
    event        text             NOT NULL,
    severity     text             NOT NULL,
    title        text             NOT NULL,
    body         text             NOT NULL,
    at           bigint           NOT NULL,
    facts        text             NOT NULL,
    attempts     integer          NOT NULL DEFAULT 0,
    error        text             NOT NULL DEFAULT '',
    due_at       bigint           DEFAULT 0, -- 0: at once; NULL: given up
    delivered_at bigint,                     -- NULL: not yet
    FOREIGN KEY (model, seq) REFERENCES entries (model, seq)
);

CREATE INDEX outbox_waiting ON outbox (position) WHERE delivered_at IS NULL;

CREATE TABLE looks (
    model text COLLATE "C" NOT NULL,
    at    bigint           NOT NULL,
    data  text             NOT NULL,
    PRIMARY KEY (model, at)
);

-- Kept by triggers, so that holding the bound costs what falls out of it and not a count of what stays.
CREATE TABLE looks_totals (
    model text COLLATE "C" PRIMARY KEY,
    looks bigint           NOT NULL
);

CREATE FUNCTION looks_added() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO looks_totals AS kept (model, looks)
    SELECT model, count(*) FROM added GROUP BY model ORDER BY model
    ON CONFLICT (model) DO UPDATE SET looks = kept.looks + excluded.looks;
    RETURN NULL;
END
$$;

CREATE TRIGGER looks_added AFTER INSERT ON looks REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION looks_added();

CREATE FUNCTION looks_removed() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    UPDATE looks_totals SET looks = looks_totals.looks - gone.looks
    FROM (SELECT model, count(*) AS looks FROM removed GROUP BY model) AS gone
    WHERE looks_totals.model = gone.model;
    RETURN NULL;
END
$$;

CREATE TRIGGER looks_removed AFTER DELETE ON looks REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION looks_removed();
