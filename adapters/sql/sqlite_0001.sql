-- The embedded ledger: streams of entries, one lease, one time a model, notices on their way.
-- Times of ours are microseconds since 1970 in UTC; only leases.expires_at is seconds of the store's clock.

CREATE TABLE entries (
    model TEXT NOT NULL,
    seq   INTEGER NOT NULL,
    v     INTEGER NOT NULL,
    chain TEXT NOT NULL,
    at    TEXT NOT NULL,
    kind  TEXT NOT NULL,
    key   TEXT,
    actor TEXT NOT NULL,
    data  TEXT NOT NULL,
    prev  TEXT NOT NULL,
    hash  TEXT NOT NULL,
    PRIMARY KEY (model, seq)
);

CREATE UNIQUE INDEX entries_key ON entries (model, key) WHERE key IS NOT NULL;

-- Whoever writes, and with whatever program: a stream has no gap, no fork and no second past.
CREATE TRIGGER entries_follow BEFORE INSERT ON entries
WHEN NEW.seq IS NOT 1 + coalesce((SELECT max(seq) FROM entries WHERE model = NEW.model), 0)
  OR NEW.prev IS NOT coalesce(
         (SELECT hash FROM entries WHERE model = NEW.model AND seq = NEW.seq - 1),
         '0000000000000000000000000000000000000000000000000000000000000000')
BEGIN
    SELECT RAISE(ABORT, 'an entry follows the head of its stream');
END;

CREATE TRIGGER entries_no_update BEFORE UPDATE ON entries
BEGIN
    SELECT RAISE(ABORT, 'an entry is never changed');
END;

CREATE TRIGGER entries_no_delete BEFORE DELETE ON entries
BEGIN
    SELECT RAISE(ABORT, 'an entry is never removed');
END;

CREATE TABLE leases (
    shard      INTEGER PRIMARY KEY,
    holder     TEXT,                -- NULL: free
    epoch      INTEGER NOT NULL,
    expires_at REAL NOT NULL
);

INSERT INTO leases (shard, holder, epoch, expires_at) VALUES (0, NULL, 0, 0);

CREATE TABLE agenda (
    model     TEXT PRIMARY KEY,
    next_look INTEGER NOT NULL
);

CREATE INDEX agenda_next_look ON agenda (next_look, model);

CREATE TABLE outbox (
    position     INTEGER PRIMARY KEY,
    id           TEXT NOT NULL UNIQUE,
    model        TEXT NOT NULL,
    seq          INTEGER NOT NULL,
    event        TEXT NOT NULL,
    severity     TEXT NOT NULL,
    title        TEXT NOT NULL,
    body         TEXT NOT NULL,
    at           INTEGER NOT NULL,
    facts        TEXT NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    error        TEXT NOT NULL DEFAULT '',
    due_at       INTEGER DEFAULT 0, -- 0: at once; NULL: given up
    delivered_at INTEGER,           -- NULL: not yet
    FOREIGN KEY (model, seq) REFERENCES entries (model, seq)
);

CREATE INDEX outbox_waiting ON outbox (due_at) WHERE delivered_at IS NULL;
