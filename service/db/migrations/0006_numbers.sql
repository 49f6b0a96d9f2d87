-- What operators look at is counted when it happens, so that looking costs the same with ten jobs and a million.
-- In every table of numbers the tenant '' stands for everybody. None has a CHECK against going below zero: a number that
-- is wrong must not keep a job from moving on.

-- Lists of jobs, newest first, by whatever they are filtered by.
CREATE INDEX jobs_by_state ON jobs (state, id);
CREATE INDEX jobs_by_tenant_state ON jobs (tenant, state, id);
CREATE INDEX jobs_by_model ON jobs (model, id);
CREATE INDEX jobs_by_error ON jobs (error_code, id) WHERE error_code IS NOT NULL;
CREATE INDEX jobs_by_retry ON jobs (retry_of, id) WHERE retry_of IS NOT NULL;

-- Whose jobs there ever were. Who claims jobs of whatever provider looks them up in jobs_by_due provider by provider,
-- and would never see those of one that is missing here: so none is ever taken out, whatever becomes of its jobs.
CREATE TABLE providers (
    provider TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

INSERT INTO providers (provider) SELECT DISTINCT provider FROM jobs;

CREATE TRIGGER jobs_name_their_provider AFTER INSERT ON jobs
BEGIN
    INSERT INTO providers (provider) VALUES (NEW.provider) ON CONFLICT DO NOTHING;
END;

CREATE TRIGGER providers_stay BEFORE DELETE ON providers
BEGIN
    SELECT RAISE(ABORT, 'a provider that had jobs is never forgotten');
END;

-- How many jobs are in each state now.
CREATE TABLE job_counts (
    tenant   TEXT NOT NULL,
    provider TEXT NOT NULL,
    state    TEXT NOT NULL,
    jobs     INTEGER NOT NULL,
    PRIMARY KEY (tenant, provider, state)
) STRICT, WITHOUT ROWID;

INSERT INTO job_counts (tenant, provider, state, jobs)
SELECT tenant, provider, state, count(*) FROM jobs GROUP BY tenant, provider, state;
INSERT INTO job_counts (tenant, provider, state, jobs)
SELECT '', provider, state, sum(jobs) FROM job_counts GROUP BY provider, state;

CREATE TRIGGER jobs_are_counted AFTER INSERT ON jobs
BEGIN
    INSERT INTO job_counts (tenant, provider, state, jobs)
    VALUES (NEW.tenant, NEW.provider, NEW.state, 1), ('', NEW.provider, NEW.state, 1)
        ON CONFLICT (tenant, provider, state) DO UPDATE SET jobs = jobs + excluded.jobs;
END;

CREATE TRIGGER jobs_that_move_are_counted AFTER UPDATE OF state ON jobs WHEN NEW.state <> OLD.state
BEGIN
    INSERT INTO job_counts (tenant, provider, state, jobs)
    VALUES (NEW.tenant, NEW.provider, NEW.state, 1), ('', NEW.provider, NEW.state, 1),
           (NEW.tenant, NEW.provider, OLD.state, -1), ('', NEW.provider, OLD.state, -1)
        ON CONFLICT (tenant, provider, state) DO UPDATE SET jobs = jobs + excluded.jobs;
END;

CREATE TRIGGER jobs_that_go_are_counted AFTER DELETE ON jobs
BEGIN
    UPDATE job_counts SET jobs = jobs - 1
     WHERE tenant IN (OLD.tenant, '') AND provider = OLD.provider AND state = OLD.state;
END;

-- What happened, by the quarter of an hour (unix ms / 900000): each event by its type, and `report.callback`,
-- `report.poll` and `report.submission` for how the last word about a job came. The time comes first, so that what is
-- old lies together; it is forgotten after eight days.
CREATE TABLE activity (
    quarter  INTEGER NOT NULL,
    tenant   TEXT NOT NULL,
    provider TEXT NOT NULL,
    type     TEXT NOT NULL,
    times    INTEGER NOT NULL,
    PRIMARY KEY (quarter, tenant, provider, type)
) STRICT, WITHOUT ROWID;

INSERT INTO activity (quarter, tenant, provider, type, times)
SELECT events.at / 900000, jobs.tenant, jobs.provider, events.type, count(*)
  FROM events CROSS JOIN jobs ON jobs.id = events.job_id
 WHERE events.at > (SELECT max(at) FROM events) - 691200000
 GROUP BY 1, 2, 3, 4;
INSERT INTO activity (quarter, tenant, provider, type, times)
SELECT events.at / 900000, jobs.tenant, jobs.provider, 'report.' || json_extract(events.data, '$.source'), count(*)
  FROM events CROSS JOIN jobs ON jobs.id = events.job_id
 WHERE events.at > (SELECT max(at) FROM events) - 691200000
   AND events.type IN ('job.mirroring', 'job.failed', 'job.cancelled', 'job.expired')
   AND json_extract(events.data, '$.source') IN ('callback', 'poll', 'submission')
 GROUP BY 1, 2, 3, 4;
INSERT INTO activity (quarter, tenant, provider, type, times)
SELECT quarter, '', provider, type, sum(times) FROM activity GROUP BY quarter, provider, type;

CREATE TRIGGER events_are_counted AFTER INSERT ON events
BEGIN
    INSERT INTO activity (quarter, tenant, provider, type, times)
    SELECT NEW.at / 900000, CASE everybody WHEN 1 THEN '' ELSE tenant END, provider, NEW.type, 1
      FROM jobs CROSS JOIN (SELECT 0 AS everybody UNION ALL SELECT 1) WHERE id = NEW.job_id
        ON CONFLICT (quarter, tenant, provider, type) DO UPDATE SET times = times + 1;
END;

CREATE TRIGGER reports_are_counted AFTER INSERT ON events
WHEN NEW.type IN ('job.mirroring', 'job.failed', 'job.cancelled', 'job.expired')
     AND json_extract(NEW.data, '$.source') IN ('callback', 'poll', 'submission')
BEGIN
    INSERT INTO activity (quarter, tenant, provider, type, times)
    SELECT NEW.at / 900000, CASE everybody WHEN 1 THEN '' ELSE tenant END, provider,
           'report.' || json_extract(NEW.data, '$.source'), 1
      FROM jobs CROSS JOIN (SELECT 0 AS everybody UNION ALL SELECT 1) WHERE id = NEW.job_id
        ON CONFLICT (quarter, tenant, provider, type) DO UPDATE SET times = times + 1;
END;

DROP TABLE report_counts;

-- How long jobs took from their submission until their video was kept, by the hour in which it was: `bucket` is the
-- place of the first of the bounds 500, 575, 661, … ms (each 15 % above the one before, rounded down) that is not
-- exceeded. Forgotten after eight days.
CREATE TABLE kept_times (
    hour     INTEGER NOT NULL,
    tenant   TEXT NOT NULL,
    provider TEXT NOT NULL,
    bucket   INTEGER NOT NULL,
    jobs     INTEGER NOT NULL,
    PRIMARY KEY (hour, tenant, provider, bucket)
) STRICT, WITHOUT ROWID;

INSERT INTO kept_times (hour, tenant, provider, bucket, jobs)
WITH RECURSIVE bounds (bucket, most) AS (
    SELECT 0, 500 UNION ALL SELECT bucket + 1, most * 115 / 100 FROM bounds WHERE most < 172800000
)
SELECT finished_at / 3600000, tenant, provider,
       (SELECT count(*) FROM bounds WHERE most < finished_at - submitted_at), count(*)
  FROM jobs
 WHERE state = 'completed' AND finished_at > (SELECT max(at) FROM events) - 691200000
 GROUP BY 1, 2, 3, 4;
INSERT INTO kept_times (hour, tenant, provider, bucket, jobs)
SELECT hour, '', provider, bucket, sum(jobs) FROM kept_times GROUP BY hour, provider, bucket;

-- What providers said that jobs cost, in USD, by the day (unix ms / 86400000) of their submission: `jobs` is how many
-- a provider took, `priced` of how many of them the cost is known. A job that is deleted has cost what it has cost.
-- Forgotten after 30 days.
CREATE TABLE spend (
    day      INTEGER NOT NULL,
    tenant   TEXT NOT NULL,
    provider TEXT NOT NULL,
    model    TEXT NOT NULL,
    jobs     INTEGER NOT NULL,
    priced   INTEGER NOT NULL,
    cost     REAL NOT NULL,
    PRIMARY KEY (day, tenant, provider, model)
) STRICT, WITHOUT ROWID;

INSERT INTO spend (day, tenant, provider, model, jobs, priced, cost)
SELECT coalesce(submitted_at, created_at) / 86400000, tenant, provider, model, count(*), count(cost), total(cost)
  FROM jobs
 WHERE (provider_job_id IS NOT NULL OR cost IS NOT NULL)
   AND coalesce(submitted_at, created_at) > (SELECT max(at) FROM events) - 2592000000
 GROUP BY 1, 2, 3, 4;
INSERT INTO spend (day, tenant, provider, model, jobs, priced, cost)
SELECT day, '', provider, model, sum(jobs), sum(priced), sum(cost) FROM spend GROUP BY day, provider, model;

CREATE TRIGGER jobs_with_a_cost_are_spent AFTER INSERT ON jobs
WHEN NEW.provider_job_id IS NOT NULL OR NEW.cost IS NOT NULL
BEGIN
    INSERT INTO spend (day, tenant, provider, model, jobs, priced, cost)
    SELECT coalesce(NEW.submitted_at, NEW.created_at) / 86400000, CASE everybody WHEN 1 THEN '' ELSE NEW.tenant END,
           NEW.provider, NEW.model, 1, NEW.cost IS NOT NULL, coalesce(NEW.cost, 0)
      FROM (SELECT 0 AS everybody UNION ALL SELECT 1) WHERE true
        ON CONFLICT (day, tenant, provider, model) DO UPDATE
       SET jobs = jobs + excluded.jobs, priced = priced + excluded.priced, cost = cost + excluded.cost;
END;

-- Once a provider has a job it is never submitted again, so the day of its submission stays.
CREATE TRIGGER jobs_are_spent_once AFTER UPDATE OF provider_job_id, cost ON jobs
WHEN (OLD.provider_job_id IS NULL AND OLD.cost IS NULL AND NEW.provider_job_id IS NOT NULL) OR OLD.cost IS NOT NEW.cost
BEGIN
    INSERT INTO spend (day, tenant, provider, model, jobs, priced, cost)
    SELECT coalesce(NEW.submitted_at, NEW.created_at) / 86400000, CASE everybody WHEN 1 THEN '' ELSE NEW.tenant END,
           NEW.provider, NEW.model, OLD.provider_job_id IS NULL AND OLD.cost IS NULL,
           (NEW.cost IS NOT NULL) - (OLD.cost IS NOT NULL), coalesce(NEW.cost, 0) - coalesce(OLD.cost, 0)
      FROM (SELECT 0 AS everybody UNION ALL SELECT 1) WHERE true
        ON CONFLICT (day, tenant, provider, model) DO UPDATE
       SET jobs = jobs + excluded.jobs, priced = priced + excluded.priced, cost = cost + excluded.cost;
END;

-- What is kept in object storage: videos, without their pictures.
CREATE TABLE stored (
    tenant TEXT PRIMARY KEY,
    files  INTEGER NOT NULL,
    bytes  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO stored (tenant, files, bytes)
SELECT jobs.tenant, count(*), sum(artifacts.bytes) FROM artifacts CROSS JOIN jobs ON jobs.id = artifacts.job_id
 GROUP BY jobs.tenant;
INSERT INTO stored (tenant, files, bytes) SELECT '', count(*), coalesce(sum(bytes), 0) FROM artifacts;

CREATE TRIGGER artifacts_are_counted AFTER INSERT ON artifacts
BEGIN
    INSERT INTO stored (tenant, files, bytes)
    SELECT CASE everybody WHEN 1 THEN '' ELSE tenant END, 1, NEW.bytes
      FROM jobs CROSS JOIN (SELECT 0 AS everybody UNION ALL SELECT 1) WHERE id = NEW.job_id
        ON CONFLICT (tenant) DO UPDATE SET files = files + 1, bytes = bytes + excluded.bytes;
END;

CREATE TRIGGER artifacts_that_change_are_counted AFTER UPDATE OF bytes ON artifacts WHEN NEW.bytes <> OLD.bytes
BEGIN
    UPDATE stored SET bytes = bytes + NEW.bytes - OLD.bytes
     WHERE tenant IN ('', (SELECT tenant FROM jobs WHERE id = NEW.job_id));
END;

CREATE TRIGGER artifacts_that_go_are_counted AFTER DELETE ON artifacts
BEGIN
    UPDATE stored SET files = files - 1, bytes = bytes - OLD.bytes
     WHERE tenant IN ('', (SELECT tenant FROM jobs WHERE id = OLD.job_id));
END;

-- What has become of what callers are owed.
CREATE TABLE delivery_counts (
    tenant     TEXT NOT NULL,
    state      TEXT NOT NULL,
    deliveries INTEGER NOT NULL,
    PRIMARY KEY (tenant, state)
) STRICT, WITHOUT ROWID;

INSERT INTO delivery_counts (tenant, state, deliveries)
SELECT tenant, state, count(*) FROM deliveries GROUP BY tenant, state;
INSERT INTO delivery_counts (tenant, state, deliveries)
SELECT '', state, sum(deliveries) FROM delivery_counts GROUP BY state;

-- Whether the last attempt failed, of what was not delivered: it stays so while it is sent once more.
ALTER TABLE deliveries ADD COLUMN untaken INTEGER NOT NULL DEFAULT 0 CHECK (untaken IN (0, 1));

UPDATE deliveries SET untaken = 1
 WHERE state <> 'delivered'
   AND (SELECT status IS NULL OR status NOT BETWEEN 200 AND 299 FROM delivery_attempts
         WHERE delivery_id = deliveries.id ORDER BY number DESC LIMIT 1);

-- The same of each receiver, and what its last attempt that failed was answered with. Of what is pending, `waiting`
-- counts what has its next attempt still to come, after one that failed, and `untaken` also what is on its way again.
ALTER TABLE receivers ADD COLUMN failed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE receivers ADD COLUMN pending INTEGER NOT NULL DEFAULT 0;
ALTER TABLE receivers ADD COLUMN waiting INTEGER NOT NULL DEFAULT 0;
ALTER TABLE receivers ADD COLUMN untaken INTEGER NOT NULL DEFAULT 0;
ALTER TABLE receivers ADD COLUMN last_at INTEGER;
ALTER TABLE receivers ADD COLUMN last_status INTEGER;
ALTER TABLE receivers ADD COLUMN last_error TEXT;

UPDATE receivers
   SET failed = (SELECT count(*) FROM deliveries
                  WHERE tenant = receivers.tenant AND receiver = receivers.receiver AND state = 'failed'),
       pending = (SELECT count(*) FROM deliveries
                   WHERE tenant = receivers.tenant AND receiver = receivers.receiver AND state = 'pending'),
       waiting = (SELECT count(*) FROM deliveries
                   WHERE tenant = receivers.tenant AND receiver = receivers.receiver
                     AND state = 'pending' AND lease IS NULL AND attempt > 0),
       untaken = (SELECT count(*) FROM deliveries
                   WHERE tenant = receivers.tenant AND receiver = receivers.receiver
                     AND state = 'pending' AND untaken = 1),
       (last_at, last_status, last_error) = (
           SELECT at, status, delivery_attempts.error FROM deliveries CROSS JOIN delivery_attempts ON delivery_id = id
            WHERE tenant = receivers.tenant AND receiver = receivers.receiver
              AND (status IS NULL OR status NOT BETWEEN 200 AND 299)
            ORDER BY at DESC LIMIT 1);

CREATE INDEX receivers_by_first_due ON receivers (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX receivers_in_trouble ON receivers (last_at) WHERE failed > 0 OR untaken > 0;
CREATE INDEX receivers_in_trouble_by_tenant ON receivers (tenant, last_at) WHERE failed > 0 OR untaken > 0;
CREATE INDEX receivers_in_trouble_by_name ON receivers (receiver, tenant) WHERE failed > 0 OR untaken > 0;
CREATE INDEX deliveries_failed_by_tenant ON deliveries (tenant, receiver, id) WHERE state = 'failed';
CREATE INDEX deliveries_to_redeliver ON deliveries (tenant, receiver, id)
 WHERE state = 'failed' OR (state = 'pending' AND lease IS NULL AND attempt > 0);

DROP TRIGGER deliveries_have_a_receiver;
CREATE TRIGGER deliveries_have_a_receiver AFTER INSERT ON deliveries
BEGIN
    INSERT INTO receivers (tenant, receiver) VALUES (NEW.tenant, NEW.receiver) ON CONFLICT DO NOTHING;
    UPDATE receivers
       SET due_at = (SELECT min(due_at) FROM deliveries WHERE tenant = NEW.tenant AND receiver = NEW.receiver),
           failed = failed + (NEW.state = 'failed'),
           pending = pending + (NEW.state = 'pending'),
           waiting = waiting + (NEW.state = 'pending' AND NEW.lease IS NULL AND NEW.attempt > 0),
           untaken = untaken + (NEW.state = 'pending' AND NEW.untaken = 1)
     WHERE tenant = NEW.tenant AND receiver = NEW.receiver;
    INSERT INTO delivery_counts (tenant, state, deliveries) VALUES (NEW.tenant, NEW.state, 1), ('', NEW.state, 1)
        ON CONFLICT (tenant, state) DO UPDATE SET deliveries = deliveries + 1;
END;

DROP TRIGGER deliveries_move_their_receiver;
CREATE TRIGGER deliveries_move_their_receiver AFTER UPDATE OF state, attempt, due_at, lease, untaken ON deliveries
BEGIN
    UPDATE receivers
       SET due_at = (SELECT min(due_at) FROM deliveries WHERE tenant = NEW.tenant AND receiver = NEW.receiver),
           failed = failed + (NEW.state = 'failed') - (OLD.state = 'failed'),
           pending = pending + (NEW.state = 'pending') - (OLD.state = 'pending'),
           waiting = waiting + (NEW.state = 'pending' AND NEW.lease IS NULL AND NEW.attempt > 0)
                             - (OLD.state = 'pending' AND OLD.lease IS NULL AND OLD.attempt > 0),
           untaken = untaken + (NEW.state = 'pending' AND NEW.untaken = 1)
                             - (OLD.state = 'pending' AND OLD.untaken = 1)
     WHERE tenant = NEW.tenant AND receiver = NEW.receiver;
END;

CREATE TRIGGER deliveries_that_move_are_counted AFTER UPDATE OF state ON deliveries WHEN NEW.state <> OLD.state
BEGIN
    INSERT INTO delivery_counts (tenant, state, deliveries)
    VALUES (NEW.tenant, NEW.state, 1), ('', NEW.state, 1), (NEW.tenant, OLD.state, -1), ('', OLD.state, -1)
        ON CONFLICT (tenant, state) DO UPDATE SET deliveries = deliveries + excluded.deliveries;
END;

DROP TRIGGER deliveries_take_their_receiver_along;
CREATE TRIGGER deliveries_take_their_receiver_along AFTER DELETE ON deliveries
BEGIN
    UPDATE receivers
       SET due_at = (SELECT min(due_at) FROM deliveries WHERE tenant = OLD.tenant AND receiver = OLD.receiver),
           failed = failed - (OLD.state = 'failed'),
           pending = pending - (OLD.state = 'pending'),
           waiting = waiting - (OLD.state = 'pending' AND OLD.lease IS NULL AND OLD.attempt > 0),
           untaken = untaken - (OLD.state = 'pending' AND OLD.untaken = 1)
     WHERE tenant = OLD.tenant AND receiver = OLD.receiver;
    DELETE FROM receivers
     WHERE tenant = OLD.tenant AND receiver = OLD.receiver
       AND NOT EXISTS (SELECT 1 FROM deliveries WHERE tenant = OLD.tenant AND receiver = OLD.receiver);
    UPDATE delivery_counts SET deliveries = deliveries - 1 WHERE tenant IN (OLD.tenant, '') AND state = OLD.state;
END;

-- The words that people look for a job by: its prompt, its model and what its caller attached to it. Kept beside the
-- index, which needs the very same words again to forget them. The tenant is one word, in hexadecimal, whatever
-- characters its name has.
CREATE TABLE searchable (
    number INTEGER PRIMARY KEY,
    job_id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    words  TEXT NOT NULL
) STRICT;

CREATE VIRTUAL TABLE search USING fts5 (
    tenant, words,
    content = 'searchable', content_rowid = 'number', columnsize = 0, tokenize = 'unicode61 remove_diacritics 2'
);

INSERT INTO searchable (job_id, tenant, words)
SELECT id, hex(tenant),
       model || ' ' || substr(coalesce(json_extract(request, '$.prompt'), ''), 1, 2000)
       || CASE metadata WHEN '{}' THEN '' ELSE
              ' ' || substr(coalesce((SELECT group_concat(atom, ' ') FROM json_tree(metadata)), ''), 1, 2000) END
  FROM jobs ORDER BY id;
INSERT INTO search (search) VALUES ('rebuild');

-- Up to which number the index goes. Words are added to it many jobs at a time, which is ten times cheaper: after 256
-- jobs, and when somebody searches.
CREATE TABLE search_progress (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    indexed INTEGER NOT NULL
) STRICT;

INSERT INTO search_progress (id, indexed) SELECT 1, coalesce(max(number), 0) FROM searchable;

CREATE TRIGGER words_are_indexed AFTER UPDATE OF indexed ON search_progress
BEGIN
    INSERT INTO search (rowid, tenant, words)
    SELECT number, tenant, words FROM searchable WHERE number > OLD.indexed AND number <= NEW.indexed;
END;

CREATE TRIGGER jobs_can_be_searched AFTER INSERT ON jobs
BEGIN
    INSERT INTO searchable (job_id, tenant, words)
    VALUES (NEW.id, hex(NEW.tenant),
            NEW.model || ' ' || substr(coalesce(json_extract(NEW.request, '$.prompt'), ''), 1, 2000)
            || CASE NEW.metadata WHEN '{}' THEN '' ELSE
                   ' ' || substr(coalesce((SELECT group_concat(atom, ' ') FROM json_tree(NEW.metadata)), ''), 1, 2000)
               END);
END;

CREATE TRIGGER searchable_jobs_are_indexed AFTER INSERT ON searchable WHEN NEW.number % 256 = 0
BEGIN
    UPDATE search_progress SET indexed = NEW.number;
END;

-- The number of the last one is given again, to a job that is not in the index yet.
CREATE TRIGGER jobs_that_go_are_not_found AFTER DELETE ON jobs
BEGIN
    INSERT INTO search (search, rowid, tenant, words)
    SELECT 'delete', number, tenant, words FROM searchable
     WHERE job_id = OLD.id AND number <= (SELECT indexed FROM search_progress);
    DELETE FROM searchable WHERE job_id = OLD.id;
    UPDATE search_progress SET indexed = (SELECT coalesce(max(number), 0) FROM searchable)
     WHERE indexed > (SELECT coalesce(max(number), 0) FROM searchable);
END;

-- Who is signed in to the pages; of what the browser carries only its SHA-256 is kept.
CREATE TABLE sessions (
    hash       TEXT PRIMARY KEY,
    api_key_id TEXT NOT NULL REFERENCES api_keys (id),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX sessions_by_key ON sessions (api_key_id, created_at);
CREATE INDEX sessions_by_end ON sessions (expires_at);
