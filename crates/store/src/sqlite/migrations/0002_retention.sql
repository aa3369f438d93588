-- What became of a dead letter: 0 given up, 1 put back into the outbox, 2 delivered after that; since when, and how often
-- it was put back.
ALTER TABLE dead_letters ADD COLUMN fate INTEGER NOT NULL DEFAULT 0;
ALTER TABLE dead_letters ADD COLUMN fate_at INTEGER;
ALTER TABLE dead_letters ADD COLUMN replays INTEGER NOT NULL DEFAULT 0;

-- The dead letter that a notice was put back from.
ALTER TABLE outbox ADD COLUMN letter INTEGER;

-- A meeting is forgotten some time after its end, or after it was last held.
ALTER TABLE meetings ADD COLUMN ends INTEGER NOT NULL DEFAULT 0;
ALTER TABLE meetings ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
UPDATE meetings SET ends = max(created, ifnull(CASE WHEN json_valid(body) THEN json_extract(body, '$.end') END, 0));
CREATE INDEX meetings_by_end ON meetings (ends);

CREATE INDEX bindings_by_expiry ON bindings (expires_at);
