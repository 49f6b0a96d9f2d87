-- Callbacks that were not believed, for whoever looks for the reason.


-- upsert_rejection --
-- Keep a rejection of a job at its provider's address, or count it with those that have its reason already.
INSERT INTO rejections (job_id, provider, reason, message, times, first_at, last_at, headers, bytes)
SELECT id, provider, :reason, :message, :times, :first_at, :last_at, :headers, :bytes
  FROM jobs WHERE id = :job_id AND provider = :provider
ON CONFLICT (job_id, reason) DO UPDATE
   SET times = times + excluded.times, last_at = max(last_at, excluded.last_at), message = excluded.message,
       headers = excluded.headers, bytes = excluded.bytes;

-- trim_rejections --
-- Forget all but the newest :most.
DELETE FROM rejections
 WHERE (job_id, reason) IN (SELECT job_id, reason FROM rejections
                             ORDER BY last_at DESC, job_id DESC, reason DESC LIMIT -1 OFFSET :most);

-- delete_rejections --
-- Forget what was not believed about a job.
DELETE FROM rejections WHERE job_id = :job_id;

-- rejections --
-- A page, newest first, continuing before the one of :before_at, :before_job and :before_reason; NULL filters nothing.
SELECT rejections.* FROM rejections JOIN jobs ON jobs.id = rejections.job_id
 WHERE (rejections.last_at, rejections.job_id, rejections.reason)
       < (coalesce(:before_at, 9223372036854775807), coalesce(:before_job, ''), coalesce(:before_reason, ''))
   AND (:tenant IS NULL OR jobs.tenant = :tenant)
   AND (:job_id IS NULL OR rejections.job_id = :job_id)
 ORDER BY rejections.last_at DESC, rejections.job_id DESC, rejections.reason DESC
 LIMIT :limit;

-- count_rejections --
-- How often callbacks of each provider were not believed, and why.
SELECT provider, reason, sum(times) AS times FROM rejections GROUP BY provider, reason;
