-- Limits across models, and leases that a clock set back cannot prolong.

-- Units of what is limited: of two that want the same one, the primary key refuses the second.
CREATE TABLE units (
    scope  TEXT NOT NULL,
    period TEXT NOT NULL,           -- empty: in use, and given back afterwards
    n      INTEGER NOT NULL,
    owner  TEXT NOT NULL,
    PRIMARY KEY (scope, period, n),
    UNIQUE (scope, period, owner)
) WITHOUT ROWID;

CREATE INDEX units_in_use ON units (owner) WHERE period = '';

-- With more than its whole life before it, a lease is over as well.
ALTER TABLE leases ADD COLUMN seconds REAL NOT NULL DEFAULT 0;

-- The latest time of a claim, by the controller's clock: how a clock that was set back is told.
ALTER TABLE leases ADD COLUMN claimed_at INTEGER NOT NULL DEFAULT 0;
