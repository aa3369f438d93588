-- One row per live conference; how many events its log holds.
CREATE TABLE conferences (
    id       BLOB    NOT NULL PRIMARY KEY,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row per turn: its events as a JSON array, after `position` earlier ones. Only ever appended to, and removed as a
-- whole when the conference closes.
CREATE TABLE log (
    conference BLOB    NOT NULL REFERENCES conferences (id) ON DELETE CASCADE,
    position   INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    events     TEXT    NOT NULL,
    PRIMARY KEY (conference, position)
) STRICT, WITHOUT ROWID;

-- The newest snapshot: a shortcut. The log alone says everything.
CREATE TABLE snapshots (
    conference BLOB    NOT NULL PRIMARY KEY REFERENCES conferences (id) ON DELETE CASCADE,
    position   INTEGER NOT NULL,
    body       TEXT    NOT NULL
) STRICT;

CREATE TABLE calls (
    id         BLOB NOT NULL PRIMARY KEY,
    conference BLOB NOT NULL REFERENCES conferences (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX calls_of_conference ON calls (conference);

CREATE TABLE outbox (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id  BLOB    NOT NULL,
    created     INTEGER NOT NULL,
    call        BLOB    NOT NULL,
    app         BLOB    NOT NULL,
    tenant      BLOB    NOT NULL,
    callback    TEXT    NOT NULL,
    scenario    BLOB    NOT NULL,
    chain       BLOB    NOT NULL,
    body        TEXT    NOT NULL,
    waits_for   BLOB,
    settles     BLOB,
    full_roster INTEGER NOT NULL,
    ends_call   INTEGER NOT NULL
) STRICT;

CREATE TABLE dead_letters (
    id          INTEGER PRIMARY KEY,
    message_id  BLOB    NOT NULL,
    created     INTEGER NOT NULL,
    call        BLOB    NOT NULL,
    app         BLOB    NOT NULL,
    tenant      BLOB    NOT NULL,
    callback    TEXT    NOT NULL,
    scenario    BLOB    NOT NULL,
    chain       BLOB    NOT NULL,
    body        TEXT    NOT NULL,
    waits_for   BLOB,
    settles     BLOB,
    full_roster INTEGER NOT NULL,
    ends_call   INTEGER NOT NULL,
    died        INTEGER NOT NULL,
    status      INTEGER,
    reason      TEXT    NOT NULL,
    attempts    INTEGER NOT NULL
) STRICT;
CREATE INDEX dead_letters_by_age ON dead_letters (died);

-- The directory: `body` is the entry as JSON; the other columns are what must be unique or refer to something.
CREATE TABLE directory_version (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    version INTEGER NOT NULL
) STRICT;
INSERT INTO directory_version VALUES (1, 1);

CREATE TABLE tenants (
    id     BLOB NOT NULL PRIMARY KEY,
    domain TEXT NOT NULL UNIQUE COLLATE NOCASE,
    body   TEXT NOT NULL
) STRICT;

CREATE TABLE apps (
    id       BLOB NOT NULL PRIMARY KEY,
    tenant   BLOB NOT NULL REFERENCES tenants (id),
    number   TEXT UNIQUE,
    instance BLOB NOT NULL UNIQUE,
    body     TEXT NOT NULL
) STRICT;

CREATE TABLE users (
    id       BLOB NOT NULL PRIMARY KEY,
    tenant   BLOB NOT NULL REFERENCES tenants (id),
    username TEXT COLLATE NOCASE,
    body     TEXT NOT NULL,
    UNIQUE (tenant, username)
) STRICT;

CREATE TABLE trunks (
    name TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE meetings (
    id              BLOB    NOT NULL PRIMARY KEY,
    tenant          BLOB    NOT NULL,
    organizer       BLOB,
    created_by      BLOB    NOT NULL,
    created         INTEGER NOT NULL,
    thread          TEXT    NOT NULL UNIQUE,
    join_meeting_id TEXT    NOT NULL UNIQUE,
    vtc_id          TEXT    UNIQUE,
    external_id     TEXT,
    body            TEXT    NOT NULL
) STRICT;
CREATE INDEX meetings_of_organizer ON meetings (tenant, organizer, created);
CREATE UNIQUE INDEX meetings_by_external_id ON meetings (tenant, created_by, ifnull(organizer, x''), external_id)
    WHERE external_id IS NOT NULL;

CREATE TABLE bindings (
    aor        TEXT    NOT NULL,
    contact    TEXT    NOT NULL,
    expires_at INTEGER NOT NULL,
    path       TEXT,
    received   TEXT,
    call_id    TEXT    NOT NULL,
    cseq       INTEGER NOT NULL,
    instance   TEXT,
    data       TEXT    NOT NULL,
    PRIMARY KEY (aor, contact)
) STRICT, WITHOUT ROWID;

CREATE TABLE keys (
    kid       TEXT    NOT NULL PRIMARY KEY,
    purpose   TEXT    NOT NULL,
    private   BLOB    NOT NULL,
    created   INTEGER NOT NULL,
    retire_at INTEGER
) STRICT;

CREATE TABLE secrets (
    name  TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;
