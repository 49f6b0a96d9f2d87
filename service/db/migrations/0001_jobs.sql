-- Times are unix milliseconds, UTC. Ids sort by their time of creation.

-- One request for one video. The five columns of everything that a worker claims come first.
CREATE TABLE jobs (
    id              TEXT PRIMARY KEY,
    tenant          TEXT NOT NULL,
    state           TEXT NOT NULL CHECK (state IN
                        ('queued', 'submitting', 'running', 'mirroring', 'completed', 'failed', 'cancelled', 'expired')),
    attempt         INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    due_at          INTEGER,
    lease           TEXT,
    leased_until    INTEGER,
    provider        TEXT NOT NULL,
    provider_job_id TEXT,
    provider_status TEXT,
    model           TEXT NOT NULL,
    request         TEXT NOT NULL CHECK (json_valid(request)),
    on_unknown      TEXT NOT NULL CHECK (on_unknown IN ('wait', 'resubmit')),
    metadata        TEXT NOT NULL CHECK (json_valid(metadata)),
    created_at      INTEGER NOT NULL,
    submitted_at    INTEGER,
    doubted_at      INTEGER,
    deadline_at     INTEGER NOT NULL,
    polled_at       INTEGER,
    mirror_until    INTEGER,
    finished_at     INTEGER,
    doubts          INTEGER NOT NULL DEFAULT 0 CHECK (doubts >= 0),
    outputs         TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(outputs)),
    cost            REAL,
    error_code      TEXT,
    error           TEXT CHECK (error IS NULL OR json_valid(error)),

    UNIQUE (provider, provider_job_id),
    CHECK ((lease IS NULL) = (leased_until IS NULL)),
    CHECK (lease IS NULL OR state NOT IN ('queued', 'completed', 'cancelled')),
    CHECK ((finished_at IS NOT NULL) = (state IN ('completed', 'failed', 'cancelled', 'expired'))),
    CHECK (due_at IS NOT NULL OR state IN ('completed', 'failed', 'cancelled', 'expired')),
    CHECK (submitted_at IS NOT NULL OR state IN ('queued', 'cancelled', 'expired')),
    CHECK (provider_job_id IS NOT NULL OR state NOT IN ('running', 'mirroring', 'completed')),
    CHECK (provider_job_id IS NOT NULL OR due_at IS NULL OR state IN ('queued', 'submitting')),
    CHECK (json_array_length(outputs) > 0 OR state NOT IN ('mirroring', 'completed')),
    CHECK (mirror_until IS NOT NULL OR state <> 'mirroring'),
    CHECK ((error_code IS NOT NULL) = (state IN ('failed', 'cancelled', 'expired'))),
    CHECK ((error_code IS NULL) = (error IS NULL))
) STRICT;

CREATE INDEX jobs_by_due ON jobs (state, provider, due_at);
CREATE INDEX jobs_by_tenant ON jobs (tenant, id);

-- What may follow what: the last line of defence, kept equal to model.TRANSITIONS by a test.
CREATE TRIGGER jobs_follow_the_rules BEFORE UPDATE OF state ON jobs
WHEN NEW.state <> OLD.state AND NOT (
       (OLD.state = 'queued'     AND NEW.state IN ('submitting', 'running', 'mirroring', 'failed', 'cancelled', 'expired'))
    OR (OLD.state = 'submitting' AND NEW.state IN ('running', 'queued', 'mirroring', 'failed', 'cancelled', 'expired'))
    OR (OLD.state = 'running'    AND NEW.state IN ('mirroring', 'failed', 'cancelled', 'expired'))
    OR (OLD.state = 'mirroring'  AND NEW.state IN ('completed', 'failed'))
    OR (OLD.state = 'expired'    AND NEW.state = 'mirroring')
    OR (OLD.state = 'failed'     AND NEW.state = 'mirroring'
                                 AND (OLD.error_code IN ('submission_unknown', 'output_unavailable')
                                      OR (OLD.on_unknown = 'resubmit' AND OLD.doubts > 0)))
)
BEGIN
    SELECT RAISE(ABORT, 'a job cannot go from its state to that one');
END;

-- Facts about a job, appended in the transaction that made them true. `seq` counts from 1 within a job.
CREATE TABLE events (
    job_id TEXT NOT NULL REFERENCES jobs (id),
    seq    INTEGER NOT NULL,
    type   TEXT NOT NULL,
    at     INTEGER NOT NULL,
    data   TEXT NOT NULL CHECK (json_valid(data)),
    PRIMARY KEY (job_id, seq)
) STRICT, WITHOUT ROWID;

-- Our stored copies of a job's outputs.
CREATE TABLE artifacts (
    job_id       TEXT NOT NULL REFERENCES jobs (id),
    idx          INTEGER NOT NULL CHECK (idx >= 0),
    key          TEXT NOT NULL,
    bytes        INTEGER NOT NULL CHECK (bytes > 0),
    sha256       TEXT NOT NULL CHECK (length(sha256) = 64),
    content_type TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    PRIMARY KEY (job_id, idx)
) STRICT, WITHOUT ROWID;

-- A job with its artifacts, as every reader wants it.
CREATE VIEW job_rows AS
SELECT jobs.*,
       (SELECT json_group_array(json_object(
                   'index', idx, 'key', key, 'bytes', bytes, 'sha256', sha256, 'content_type', content_type))
          FROM (SELECT * FROM artifacts WHERE artifacts.job_id = jobs.id ORDER BY idx)) AS artifacts
  FROM jobs;

-- Verified callbacks as they came, one row for all that say the same; `times` counts them.
CREATE TABLE receipts (
    job_id          TEXT NOT NULL REFERENCES jobs (id),
    provider_job_id TEXT NOT NULL,
    word            TEXT NOT NULL,
    verdict         TEXT NOT NULL CHECK (verdict IN ('applied', 'duplicate', 'mismatched')),
    times           INTEGER NOT NULL DEFAULT 1,
    first_at        INTEGER NOT NULL,
    last_at         INTEGER NOT NULL,
    headers         TEXT NOT NULL CHECK (json_valid(headers)),
    body            BLOB NOT NULL,
    UNIQUE (job_id, provider_job_id, word)
) STRICT;

-- The caller's promise that calls with one key are one call.
CREATE TABLE idempotency_keys (
    tenant      TEXT NOT NULL,
    operation   TEXT NOT NULL,
    key         TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    job_id      TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (tenant, operation, key)
) STRICT, WITHOUT ROWID;

-- Callers' credentials; of the key itself only its SHA-256 is kept.
CREATE TABLE api_keys (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    tenant     TEXT NOT NULL,
    operator   INTEGER NOT NULL CHECK (operator IN (0, 1)),
    hash       TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;

-- How long a model usually takes, a moving average: when a job's first poll is worth it.
CREATE TABLE durations (
    provider TEXT NOT NULL,
    model    TEXT NOT NULL,
    usual_ms INTEGER NOT NULL,
    PRIMARY KEY (provider, model)
) STRICT, WITHOUT ROWID;

-- How many jobs had their last word from a callback, a poll or the answer to the submission.
CREATE TABLE report_counts (
    provider TEXT NOT NULL,
    source   TEXT NOT NULL CHECK (source IN ('callback', 'poll', 'submission')),
    jobs     INTEGER NOT NULL,
    PRIMARY KEY (provider, source)
) STRICT, WITHOUT ROWID;

-- Status words that no adapter knows, and how often they came: a provider has changed, or an adapter is wrong.
CREATE TABLE unknown_words (
    provider TEXT NOT NULL,
    word     TEXT NOT NULL,
    times    INTEGER NOT NULL,
    PRIMARY KEY (provider, word)
) STRICT, WITHOUT ROWID;

-- What the readiness probe writes.
CREATE TABLE probes (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    at INTEGER NOT NULL
) STRICT;
