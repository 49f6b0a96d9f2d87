-- What operators look at. It was counted when it happened (by triggers, see migration 0006), so nothing here costs more
-- with a million jobs than with ten. The tenant '' stands for everybody.


-- job_counts --
-- How many jobs are in each state now, by provider.
SELECT provider, state, jobs FROM job_counts WHERE tenant = :tenant AND jobs > 0;

-- activity --
-- How often what happened in each of the quarters from :first to :last.
WITH RECURSIVE quarters (quarter) AS (
    SELECT :first UNION ALL SELECT quarter + 1 FROM quarters WHERE quarter < :last
)
SELECT quarter, provider, type, times FROM quarters CROSS JOIN activity USING (quarter) WHERE tenant = :tenant;

-- forget_activity --
-- Forget the oldest day of what happened, as far as it was before :before.
DELETE FROM activity WHERE quarter < min((SELECT min(quarter) FROM activity) + 96, :before);

-- count_kept_time --
-- A job's video is kept; :bucket is how long that took since its submission.
INSERT INTO kept_times (hour, tenant, provider, bucket, jobs)
VALUES (:hour, :tenant, :provider, :bucket, 1), (:hour, '', :provider, :bucket, 1)
ON CONFLICT (hour, tenant, provider, bucket) DO UPDATE SET jobs = kept_times.jobs + 1;

-- kept_times --
-- How long jobs took until their video was kept, in the hours from :first to :last.
WITH RECURSIVE hours (hour) AS (
    SELECT :first UNION ALL SELECT hour + 1 FROM hours WHERE hour < :last
)
SELECT provider, bucket, sum(jobs) AS jobs FROM hours CROSS JOIN kept_times USING (hour)
 WHERE tenant = :tenant
 GROUP BY provider, bucket;

-- forget_kept_times --
-- Forget the oldest day of how long jobs took, as far as it was before :before.
DELETE FROM kept_times WHERE hour < min((SELECT min(hour) FROM kept_times) + 24, :before);

-- spend --
-- What jobs cost that were submitted in the days from :first to :last, the dearest provider and model first.
WITH RECURSIVE days (day) AS (
    SELECT :first UNION ALL SELECT day + 1 FROM days WHERE day < :last
)
SELECT provider, model, sum(jobs) AS jobs, sum(priced) AS priced, sum(cost) AS cost FROM days CROSS JOIN spend USING (day)
 WHERE tenant = :tenant
 GROUP BY provider, model ORDER BY sum(cost) DESC, sum(jobs) DESC, provider, model LIMIT :limit;

-- forget_spend --
-- Forget the oldest day of what jobs cost, as far as it was before :before.
DELETE FROM spend WHERE day < min((SELECT min(day) FROM spend) + 1, :before);

-- stored --
-- How much is kept in object storage.
SELECT files, bytes FROM stored WHERE tenant = :tenant;

-- delivery_counts --
-- What has become of what callers are owed.
SELECT state, deliveries FROM delivery_counts WHERE tenant = :tenant AND deliveries > 0;

-- longest_waiting --
-- The job of a state and provider that was due first; of many that are due alike, any.
SELECT id, provider, due_at FROM jobs
 WHERE state = :state AND provider = :provider AND due_at IS NOT NULL
 ORDER BY due_at LIMIT 1;

-- longest_waiting_of_tenant --
-- The same among the :most oldest jobs of one tenant in that state: no index holds when each tenant's jobs are due,
-- because every claim of every job would have to move it there.
SELECT id, provider, min(due_at) AS due_at
  FROM (SELECT id, provider, due_at FROM jobs WHERE tenant = :tenant AND state = :state ORDER BY id LIMIT :most)
 WHERE due_at IS NOT NULL
 GROUP BY provider;

-- entered_at --
-- Since when a job is in its state.
SELECT events.at FROM events CROSS JOIN jobs ON jobs.id = events.job_id
 WHERE events.job_id = :id AND events.type = 'job.' || jobs.state ORDER BY events.seq DESC LIMIT 1;

-- longest_owed --
-- The delivery that was due first.
SELECT id, job_id, due_at, created_at FROM deliveries
 WHERE (tenant, receiver) = (SELECT tenant, receiver FROM receivers WHERE due_at IS NOT NULL ORDER BY due_at LIMIT 1)
   AND due_at IS NOT NULL
 ORDER BY due_at LIMIT 1;

-- longest_owed_to_tenant --
-- The delivery of a tenant that was due first, among receivers that took their last message or (:healthy 0) did not.
SELECT id, job_id, due_at, created_at FROM deliveries
 WHERE (tenant, receiver) = (SELECT tenant, receiver FROM receivers
                              WHERE tenant = :tenant AND healthy = :healthy AND due_at IS NOT NULL
                              ORDER BY due_at LIMIT 1)
   AND due_at IS NOT NULL
 ORDER BY due_at LIMIT 1;
