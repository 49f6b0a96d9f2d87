-- Callbacks that came to a job's own address and were not believed, one row for all of a job that have one reason. They
-- are for people who look for a wrong secret, a wrong clock or a proxy that changes bodies: nothing is decided by them.
-- Of what a stranger sent only a few headers and the size are kept. There are never more than a fixed number of rows.
CREATE TABLE rejections (
    job_id   TEXT NOT NULL REFERENCES jobs (id),
    provider TEXT NOT NULL,
    reason   TEXT NOT NULL,
    message  TEXT NOT NULL,
    times    INTEGER NOT NULL CHECK (times > 0),
    first_at INTEGER NOT NULL,
    last_at  INTEGER NOT NULL,
    headers  TEXT NOT NULL CHECK (json_valid(headers)),
    bytes    INTEGER CHECK (bytes >= 0),
    PRIMARY KEY (job_id, reason)
) STRICT, WITHOUT ROWID;

CREATE INDEX rejections_by_time ON rejections (last_at);
