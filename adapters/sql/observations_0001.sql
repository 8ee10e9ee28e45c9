-- The rolling record of looks; at is microseconds since 1970 in UTC.

CREATE TABLE looks (
    model TEXT NOT NULL,
    at    INTEGER NOT NULL,
    data  TEXT NOT NULL,
    PRIMARY KEY (model, at)
);

-- Kept by triggers, so that holding the bound costs what falls out of it and not a count of what stays.
CREATE TABLE totals (
    model TEXT PRIMARY KEY,
    looks INTEGER NOT NULL
);

CREATE TRIGGER looks_added AFTER INSERT ON looks
BEGIN
    INSERT INTO totals (model, looks) VALUES (NEW.model, 1)
    ON CONFLICT (model) DO UPDATE SET looks = looks + 1;
END;

CREATE TRIGGER looks_removed AFTER DELETE ON looks
BEGIN
    UPDATE totals SET looks = looks - 1 WHERE model = OLD.model;
END;
