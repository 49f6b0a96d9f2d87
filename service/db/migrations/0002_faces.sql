-- Which dialect a job came in, where its caller wants to be told, with which (sealed) secret, and what it repeats.
ALTER TABLE jobs ADD COLUMN face TEXT NOT NULL DEFAULT 'native' CHECK (face IN ('native', 'openrouter', 'openai'));
ALTER TABLE jobs ADD COLUMN notify_url TEXT;
ALTER TABLE jobs ADD COLUMN notify_secret TEXT;
ALTER TABLE jobs ADD COLUMN retry_of TEXT;

-- What a video shows, where somebody looked inside. `poster` is the key of a picture in object storage.
ALTER TABLE artifacts ADD COLUMN footage TEXT CHECK (footage IS NULL OR json_valid(footage));

-- A job with its artifacts, as every reader wants it.
DROP VIEW job_rows;
CREATE VIEW job_rows AS
SELECT jobs.*,
       (SELECT json_group_array(json_object(
                   'index', idx, 'key', key, 'bytes', bytes, 'sha256', sha256, 'content_type', content_type,
                   'footage', json(footage)))
          FROM (SELECT * FROM artifacts WHERE artifacts.job_id = jobs.id ORDER BY idx)) AS artifacts
  FROM jobs;

-- What is too long to be read with every job: media that a caller sent as `data:` URLs, and other long texts. Needed at
-- the submission, and when the same is asked for once more; deleted with the job, or when it is completed.
CREATE TABLE inputs (
    job_id TEXT NOT NULL REFERENCES jobs (id),
    field  TEXT NOT NULL,
    url    TEXT NOT NULL,
    PRIMARY KEY (job_id, field)
) STRICT;

-- The last call that each job was made or shown to by, so that the same call made again is the same job. `call` is the
-- HTTP request that was last to be answered with the job; `answered` tells whether such an answer was ever sent.
CREATE TABLE creates (
    job_id      TEXT PRIMARY KEY REFERENCES jobs (id),
    api_key_id  TEXT NOT NULL,
    operation   TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    call        TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    called_at   INTEGER NOT NULL,
    answered    INTEGER NOT NULL DEFAULT 0 CHECK (answered IN (0, 1))
) STRICT;

CREATE INDEX creates_by_fingerprint ON creates (api_key_id, operation, fingerprint, called_at);
CREATE INDEX creates_by_call ON creates (call);

-- How strict we are with the callers of a key.
ALTER TABLE api_keys ADD COLUMN dedupe_window_ms INTEGER NOT NULL DEFAULT 0 CHECK (dedupe_window_ms >= 0);
ALTER TABLE api_keys ADD COLUMN creates_per_minute INTEGER CHECK (creates_per_minute > 0);

-- Messages that are owed to callers: written with the final state, in its transaction.
CREATE TABLE deliveries (
    id           TEXT PRIMARY KEY,
    state        TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'failed')),
    attempt      INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    due_at       INTEGER,
    lease        TEXT,
    leased_until INTEGER,
    job_id       TEXT NOT NULL REFERENCES jobs (id),
    tenant       TEXT NOT NULL,
    receiver     TEXT NOT NULL,
    ended        TEXT NOT NULL CHECK (ended IN ('completed', 'failed', 'cancelled', 'expired')),
    error        TEXT CHECK (error IS NULL OR json_valid(error)),
    created_at   INTEGER NOT NULL,
    finished_at  INTEGER,
    CHECK ((lease IS NULL) = (leased_until IS NULL)),
    CHECK ((state = 'pending') = (due_at IS NOT NULL)),
    CHECK ((state = 'pending') = (finished_at IS NULL)),
    CHECK (lease IS NULL OR state = 'pending')
) STRICT;

CREATE INDEX deliveries_by_due ON deliveries (tenant, receiver, due_at);
CREATE INDEX deliveries_by_lease ON deliveries (tenant, receiver, leased_until) WHERE lease IS NOT NULL;
CREATE INDEX deliveries_by_job ON deliveries (job_id);

-- Whom each tenant has told, when the first of what is owed there is due (NULL: nothing is owed), and whether the last
-- message that was sent there was taken. Thousands of receivers that are not due cost a claim nothing.
CREATE TABLE receivers (
    tenant   TEXT NOT NULL,
    receiver TEXT NOT NULL,
    due_at   INTEGER,
    healthy  INTEGER NOT NULL DEFAULT 0 CHECK (healthy IN (0, 1)),
    PRIMARY KEY (tenant, receiver)
) STRICT, WITHOUT ROWID;

CREATE INDEX receivers_by_due ON receivers (tenant, healthy, due_at) WHERE due_at IS NOT NULL;

CREATE TRIGGER deliveries_have_a_receiver AFTER INSERT ON deliveries
BEGIN
    INSERT INTO receivers (tenant, receiver) VALUES (NEW.tenant, NEW.receiver) ON CONFLICT DO NOTHING;
    UPDATE receivers
       SET due_at = (SELECT min(due_at) FROM deliveries WHERE tenant = NEW.tenant AND receiver = NEW.receiver)
     WHERE tenant = NEW.tenant AND receiver = NEW.receiver;
END;

CREATE TRIGGER deliveries_move_their_receiver AFTER UPDATE OF due_at ON deliveries
BEGIN
    UPDATE receivers
       SET due_at = (SELECT min(due_at) FROM deliveries WHERE tenant = NEW.tenant AND receiver = NEW.receiver)
     WHERE tenant = NEW.tenant AND receiver = NEW.receiver;
END;

CREATE TRIGGER deliveries_take_their_receiver_along AFTER DELETE ON deliveries
BEGIN
    UPDATE receivers
       SET due_at = (SELECT min(due_at) FROM deliveries WHERE tenant = OLD.tenant AND receiver = OLD.receiver)
     WHERE tenant = OLD.tenant AND receiver = OLD.receiver;
    DELETE FROM receivers
     WHERE tenant = OLD.tenant AND receiver = OLD.receiver
       AND NOT EXISTS (SELECT 1 FROM deliveries WHERE tenant = OLD.tenant AND receiver = OLD.receiver);
END;

-- Every try to deliver, with what came of it.
CREATE TABLE delivery_attempts (
    delivery_id TEXT NOT NULL REFERENCES deliveries (id),
    number      INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    status      INTEGER,
    error       TEXT,
    answer      TEXT,
    PRIMARY KEY (delivery_id, number)
) STRICT, WITHOUT ROWID;

-- The models that providers offered when they were last asked. Stale is better than nothing.
CREATE TABLE models (
    provider TEXT NOT NULL,
    id       TEXT NOT NULL,
    model    TEXT NOT NULL CHECK (json_valid(model)),
    PRIMARY KEY (provider, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX models_by_id ON models (id);

-- Providers whose account was out of credits when it was last asked to spend, and when that was.
CREATE TABLE poor_providers (
    provider TEXT PRIMARY KEY,
    at       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Files that are still to be removed from object storage, once their job is deleted, or completed with other ones.
CREATE TABLE erasures (
    id           TEXT PRIMARY KEY,
    state        TEXT NOT NULL DEFAULT 'pending' CHECK (state = 'pending'),
    attempt      INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    due_at       INTEGER NOT NULL,
    lease        TEXT,
    leased_until INTEGER,
    job_id       TEXT NOT NULL,
    CHECK ((lease IS NULL) = (leased_until IS NULL))
) STRICT;

CREATE INDEX erasures_by_due ON erasures (due_at);
