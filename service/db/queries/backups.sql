-- Copies of this database: when one was taken, and what is in doubt when a service begins to live on one.


-- note_backup --
-- Write into a copy when it was taken; of a copy of a copy that nobody has served, the first time counts.
INSERT INTO backups (id, taken_at) VALUES (1, :taken_at)
ON CONFLICT (id) DO UPDATE SET taken_at = min(backups.taken_at, excluded.taken_at);

-- count_jobs --
-- How many jobs there are, counted one by one.
SELECT count(*) AS jobs FROM jobs;

-- leave_backup --
-- From now on this file is no backup but the database of a service; no row back when it always was.
DELETE FROM backups WHERE id = 1 RETURNING taken_at;

-- doubt_queued --
-- What a backup calls queued may have been submitted since, and if the backup is not :recent even twice, on the wish of
-- a caller who prefers a second bill. It is as if it had just been submitted and the answer were lost.
UPDATE jobs
   SET state = 'submitting', attempt = attempt + 1, submitted_at = :now, doubted_at = :now,
       doubts = CASE WHEN :recent THEN doubts + 1 ELSE max(doubts + 1, 2) END,
       deadline_at = :now + :deadline_ms,
       due_at = CASE WHEN :recent AND on_unknown = 'resubmit' AND doubts = 0 THEN :now + :resubmit_after_ms
                     ELSE :now + :deadline_ms END
 WHERE state = 'queued'
RETURNING id;

-- doubt_submitting --
-- What a backup calls submitting, and would be submitted once more, may have been since: never a third time.
UPDATE jobs
   SET doubted_at = :now, doubts = 2, lease = NULL, leased_until = NULL,
       deadline_at = :now + :deadline_ms, due_at = :now + :deadline_ms
 WHERE state = 'submitting' AND on_unknown = 'resubmit' AND doubts < 2
   AND CASE WHEN doubted_at IS NULL THEN NOT :recent ELSE lease IS NOT NULL OR due_at <= :now END
RETURNING id;
