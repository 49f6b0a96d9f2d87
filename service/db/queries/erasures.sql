-- Jobs that are deleted, and the files that are removed for that.


-- close_job --
-- Nobody works on a job that has ended: it can be deleted. Whatever it is still owed or looked at for is over.
UPDATE jobs SET due_at = NULL
 WHERE id = :id AND tenant = :tenant AND state IN ('completed', 'failed', 'cancelled', 'expired')
   AND (lease IS NULL OR leased_until <= :now)
RETURNING id;

-- delete_job --
-- Forget a job; all that refers to it has been deleted before.
DELETE FROM jobs WHERE id = :id;

-- delete_events --
-- Forget a job's history.
DELETE FROM events WHERE job_id = :job_id;

-- delete_receipts --
-- Forget the callbacks about a job.
DELETE FROM receipts WHERE job_id = :job_id;

-- delete_inputs --
-- Forget the long texts of a job's request: nobody asks for it again.
DELETE FROM inputs WHERE job_id = :job_id;

-- insert_erasure --
-- A file is to be removed from object storage; its key is the id.
INSERT INTO erasures (id, due_at, job_id) VALUES (:id, :now, :job_id) ON CONFLICT (id) DO NOTHING;

-- cancel_erasure --
-- A file of that name belongs to a job again.
DELETE FROM erasures WHERE id = :id;

-- claim_erasures --
-- Take files to remove. Not those of a job that may yet be copied anew, under the same names: a file could be removed
-- while it is written. A completed job is never copied again.
UPDATE erasures
   SET attempt = attempt + 1, lease = :lease, leased_until = :until, due_at = :until
 WHERE id IN (SELECT id FROM erasures
               WHERE due_at <= :now AND (lease IS NULL OR leased_until <= :now)
                 AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = erasures.job_id AND jobs.state <> 'completed')
               ORDER BY due_at LIMIT :limit)
   AND due_at <= :now AND (lease IS NULL OR leased_until <= :now)
RETURNING id, attempt, lease;

-- renew_erasure --
-- Keep a lease; no row back when it was lost.
UPDATE erasures SET leased_until = :until, due_at = :until WHERE id = :id AND lease = :lease RETURNING id;

-- erased --
-- The file is gone.
DELETE FROM erasures WHERE id = :id AND lease = :lease RETURNING id;

-- erase_again --
-- The storage did not obey this time.
UPDATE erasures SET lease = NULL, leased_until = NULL, due_at = :due_at
 WHERE id = :id AND lease = :lease
RETURNING id;
