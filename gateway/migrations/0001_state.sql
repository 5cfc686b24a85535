-- The state of one gateway. Times are milliseconds since 1970 in UTC; lists and tables are JSON.

CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Every address that was ever given out, so that a new holder is not mistaken for an old one.
CREATE TABLE addresses (
    address  INTEGER PRIMARY KEY,          -- IPv4, as a number; the IPv6 address follows from it
    holder   TEXT NOT NULL,                -- 'device:7' or 'target:web1'
    released INTEGER                       -- when its holder was removed
) STRICT;
CREATE UNIQUE INDEX addresses_by_holder ON addresses (holder) WHERE released IS NULL;

CREATE TABLE devices (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT NOT NULL,
    public_key TEXT NOT NULL,
    preshared  TEXT NOT NULL,
    user       TEXT,                       -- either a user …
    tags       TEXT,                       -- … or tags
    created    INTEGER NOT NULL,
    expires    INTEGER,
    removed    INTEGER,
    endpoint   TEXT,                       -- where its packets last came from
    handshake  INTEGER,                    -- when it last proved its key
    CHECK ((user IS NULL) <> (tags IS NULL))
) STRICT;
CREATE UNIQUE INDEX devices_by_name ON devices (name) WHERE removed IS NULL;
CREATE UNIQUE INDEX devices_by_key ON devices (public_key) WHERE removed IS NULL;

CREATE TABLE targets (
    name  TEXT PRIMARY KEY,
    tags  TEXT NOT NULL,
    ssh   TEXT NOT NULL,
    added INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    id        TEXT PRIMARY KEY,
    protocol  TEXT NOT NULL,
    caller    TEXT NOT NULL,               -- the user, or the tags
    device    TEXT NOT NULL,
    device_id INTEGER,
    source    TEXT NOT NULL,
    target    TEXT NOT NULL,
    account   TEXT,
    rule      TEXT,
    policy    TEXT NOT NULL,               -- its revision
    recording TEXT,                        -- its folder
    started   INTEGER NOT NULL,
    ended     INTEGER,
    outcome   TEXT,
    reason    TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_by_time ON sessions (started);
CREATE INDEX sessions_by_caller ON sessions (caller, started);
CREATE INDEX sessions_by_target ON sessions (target, started);
CREATE INDEX sessions_by_outcome ON sessions (outcome, started);

CREATE TABLE checkpoints (
    session  TEXT PRIMARY KEY,
    segments INTEGER NOT NULL,
    hash     TEXT NOT NULL,
    at       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE flows (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    device      TEXT NOT NULL,             -- its public key
    protocol    TEXT NOT NULL,
    source      TEXT NOT NULL,
    destination TEXT NOT NULL,
    started     INTEGER NOT NULL,
    ended       INTEGER NOT NULL,
    rx_bytes    INTEGER NOT NULL,
    tx_bytes    INTEGER NOT NULL,
    rx_packets  INTEGER NOT NULL,
    tx_packets  INTEGER NOT NULL,
    session     TEXT,                      -- the session that it became …
    denied      TEXT                       -- … or why not
) STRICT;
CREATE INDEX flows_by_time ON flows (started);

-- The last policy that was accepted, for a start with a broken file.
CREATE TABLE policies (
    revision TEXT PRIMARY KEY,
    text     TEXT NOT NULL,
    accepted INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
