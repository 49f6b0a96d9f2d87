-- Jobs and how they move on. Each query of this folder stands under its name and one sentence, and can be pasted into
-- a shell; there is no SQL anywhere else.
-- A guard is the state in the WHERE, a fence is the lease (or, for a submission, the attempt) in the WHERE: a row that
-- comes back is a transition that happened, no row means that somebody else moved the job. The guard is repeated
-- outside the sub-select of every claim, because on PostgreSQL the sub-select alone claims rows twice; there it stands
-- with a `+`, or SQLite would walk through every job of that state instead of looking up the few that were found.


-- insert_job --
-- Accept a job; nothing is spent yet.
INSERT INTO jobs (id, tenant, state, due_at, provider, model, request, on_unknown, metadata, created_at, deadline_at,
                  face, notify_url, notify_secret, retry_of)
VALUES (:id, :tenant, 'queued', :now, :provider, :model, :request, :on_unknown, :metadata, :now, :now + :deadline_ms,
        :face, :notify_url, :notify_secret, :retry_of);

-- insert_input --
-- Keep what is too long to be read with every job.
INSERT INTO inputs (job_id, field, url) VALUES (:job_id, :field, :url);

-- inputs --
-- What a job's request leaves out, until the job is completed.
SELECT field, url FROM inputs WHERE job_id = :job_id;

-- insert_event --
-- Append a fact to a job's history.
INSERT INTO events (job_id, seq, type, at, data)
SELECT :job_id, coalesce(max(seq), 0) + 1, :type, :now, :data FROM events WHERE job_id = :job_id;

-- job --
-- One job with its artifacts; :tenant NULL reads anybody's.
SELECT * FROM job_rows WHERE id = :id AND (:tenant IS NULL OR tenant = :tenant);

-- tenant_jobs_oldest_first --
-- A page of one tenant's jobs, continuing after :after_id.
SELECT * FROM job_rows WHERE tenant = :tenant AND id > coalesce(:after_id, '') ORDER BY id LIMIT :limit;

-- retries --
-- The jobs that retried one, newest first.
SELECT id FROM jobs WHERE retry_of = :job_id ORDER BY id DESC LIMIT 20;

-- events --
-- A job's history after its event number :after, oldest first.
SELECT seq, job_id, type, at, data FROM events WHERE job_id = :job_id AND seq > :after ORDER BY seq;

-- renew --
-- Keep a lease; no row back when it was lost.
UPDATE jobs SET leased_until = :until, due_at = :until WHERE id = :id AND lease = :lease RETURNING id;


-- claim_queued --
-- Take jobs to submit; committed before the paid call is made.
UPDATE jobs
   SET state = 'submitting', attempt = attempt + 1, lease = :lease, leased_until = :until, due_at = :until,
       submitted_at = :now, doubted_at = NULL
 WHERE id IN (SELECT id FROM jobs
               WHERE state = 'queued' AND provider = :provider AND due_at <= :now AND deadline_at > :now
               ORDER BY due_at LIMIT :limit)
   AND +state = 'queued' AND due_at <= :now AND deadline_at > :now
RETURNING id;

-- expire_queued --
-- End jobs that waited too long for their turn; :doubted tells whether an earlier submission may have been accepted.
UPDATE jobs
   SET state = 'expired', due_at = NULL, finished_at = :now, error_code = :error_code, error = :error
 WHERE id IN (SELECT id FROM jobs
               WHERE state = 'queued' AND provider = :provider AND due_at <= :now AND deadline_at <= :now
                 AND (doubts > 0) = :doubted
               ORDER BY due_at LIMIT :limit)
   AND +state = 'queued' AND due_at <= :now AND deadline_at <= :now
RETURNING id;

-- submitted --
-- The provider has the job. Its id is worth more than a fence: whoever brings it first binds it, even a worker whose
-- lease was lost, and even to a job that was put back to be submitted again. Only who names it :by_hand waits while the
-- paid call is under way, whose answer will tell.
UPDATE jobs
   SET state = 'running', provider_job_id = :provider_job_id, provider_status = :word, attempt = 0,
       lease = NULL, leased_until = NULL, deadline_at = submitted_at + :deadline_ms,
       due_at = min(:now + :first_poll_ms, submitted_at + :deadline_ms)
 WHERE id = :id AND provider_job_id IS NULL
   AND (state = 'submitting' OR (state = 'queued' AND attempt > 0))
   AND (NOT :by_hand OR doubted_at IS NOT NULL OR lease IS NULL OR leased_until <= :now)
   AND NOT EXISTS (SELECT 1 FROM jobs AS other
                    WHERE other.provider = jobs.provider AND other.provider_job_id = :provider_job_id)
RETURNING id;

-- turned_away --
-- The provider provably did not accept it: back in the queue. Whoever doubted this submission meanwhile was wrong.
UPDATE jobs
   SET state = 'queued', lease = NULL, leased_until = NULL, due_at = min(:due_at, deadline_at),
       doubts = CASE WHEN doubted_at IS NULL THEN doubts ELSE doubts - 1 END, doubted_at = NULL
 WHERE id = :id AND state = 'submitting' AND attempt = :attempt
RETURNING id;

-- refused --
-- The provider said no.
UPDATE jobs
   SET state = 'failed', lease = NULL, leased_until = NULL, due_at = NULL, finished_at = :now,
       error_code = :error_code, error = :error
 WHERE id = :id AND state = 'submitting' AND attempt = :attempt
RETURNING id;

-- in_doubt --
-- Nobody knows whether the provider accepted it: wait for a callback, never submit again unless the caller chose so.
UPDATE jobs
   SET doubted_at = :now, doubts = doubts + 1, lease = NULL, leased_until = NULL,
       deadline_at = submitted_at + :deadline_ms,
       due_at = CASE WHEN on_unknown = 'resubmit' AND doubts = 0 THEN :now + :resubmit_after_ms
                     ELSE submitted_at + :deadline_ms END
 WHERE id = :id AND state = 'submitting' AND attempt = :attempt AND doubted_at IS NULL
RETURNING id;

-- claim_doubtful --
-- Take submissions whose worker died, or whose wait for a callback is over.
UPDATE jobs
   SET lease = :lease, leased_until = :until, due_at = :until
 WHERE id IN (SELECT id FROM jobs
               WHERE state = 'submitting' AND provider IN (SELECT provider FROM providers)
                 AND due_at <= :now AND (lease IS NULL OR leased_until <= :now)
               ORDER BY due_at LIMIT :limit)
   AND +state = 'submitting' AND due_at <= :now AND (lease IS NULL OR leased_until <= :now)
RETURNING id;

-- resubmit --
-- The caller prefers a second bill to no video, and the first submission stayed silent.
UPDATE jobs
   SET state = 'queued', lease = NULL, leased_until = NULL, due_at = :now, deadline_at = :now + :deadline_ms
 WHERE id = :id AND state = 'submitting' AND lease = :lease
   AND on_unknown = 'resubmit' AND doubts = 1 AND doubted_at IS NOT NULL
RETURNING id;

-- give_up_submission --
-- No callback came in time for a submission whose outcome is unknown.
UPDATE jobs
   SET state = 'failed', lease = NULL, leased_until = NULL, due_at = NULL, finished_at = :now,
       error_code = :error_code, error = :error
 WHERE id = :id AND state = 'submitting' AND lease = :lease
RETURNING id;


-- expire_unserved --
-- End jobs whose provider is not among :served any more; a running one is asked about if it comes back within a day.
UPDATE jobs
   SET state = 'expired', attempt = 0, lease = NULL, leased_until = NULL, finished_at = :now,
       due_at = CASE WHEN state = 'running' THEN :now END, error_code = :error_code, error = :error
 WHERE id IN (SELECT id FROM jobs
               WHERE state = :state
                 AND provider IN (SELECT provider FROM providers
                                   WHERE provider NOT IN (SELECT value FROM json_each(:served)))
                 AND due_at <= :now AND deadline_at <= :now AND (lease IS NULL OR leased_until <= :now)
                 AND (doubts > 0) = :doubted
               ORDER BY due_at LIMIT :limit)
   AND +state = :state AND due_at <= :now AND deadline_at <= :now AND (lease IS NULL OR leased_until <= :now)
RETURNING id;

-- give_up_unserved --
-- The same for outputs that nobody can fetch any more.
UPDATE jobs
   SET state = 'failed', lease = NULL, leased_until = NULL, due_at = NULL, finished_at = :now,
       error_code = :error_code, error = :error
 WHERE id IN (SELECT id FROM jobs
               WHERE state = 'mirroring'
                 AND provider IN (SELECT provider FROM providers
                                   WHERE provider NOT IN (SELECT value FROM json_each(:served)))
                 AND due_at <= :now AND mirror_until <= :now AND (lease IS NULL OR leased_until <= :now)
               ORDER BY due_at LIMIT :limit)
   AND +state = 'mirroring' AND due_at <= :now AND mirror_until <= :now AND (lease IS NULL OR leased_until <= :now)
RETURNING id;

-- claim_polls --
-- Take jobs to ask about: those that run, and those that we gave up on but still look at now and then.
UPDATE jobs
   SET attempt = attempt + 1, lease = :lease, leased_until = :until, due_at = :until, polled_at = :now
 WHERE id IN (SELECT id FROM jobs
               WHERE state IN ('running', 'expired', 'failed') AND provider = :provider AND due_at <= :now
                 AND (lease IS NULL OR leased_until <= :now)
               ORDER BY due_at LIMIT :limit)
   AND +state IN ('running', 'expired', 'failed') AND due_at <= :now AND (lease IS NULL OR leased_until <= :now)
RETURNING id;

-- poll_again --
-- Nothing new: look again at :due_at, or (given up, NULL) never; an answer resets the count of attempts.
UPDATE jobs
   SET lease = NULL, leased_until = NULL, due_at = :due_at, attempt = CASE WHEN :answered THEN 0 ELSE attempt END
 WHERE id = :id AND lease = :lease AND state IN ('running', 'expired', 'failed')
   AND (:due_at IS NOT NULL OR state <> 'running')
RETURNING id;

-- expire_running --
-- Nobody said how the job ended before its deadline; :due_at says when to look once more.
UPDATE jobs
   SET state = 'expired', attempt = 0, lease = NULL, leased_until = NULL, due_at = :due_at, finished_at = :now,
       error_code = :error_code, error = :error
 WHERE id = :id AND state = 'running' AND lease = :lease
RETURNING id;

-- hint --
-- An unsigned callback: poll soon, but no more often than every :gap_ms.
UPDATE jobs
   SET due_at = max(:now, coalesce(polled_at, 0) + :gap_ms)
 WHERE id = :id AND state = 'running' AND lease IS NULL AND due_at > max(:now, coalesce(polled_at, 0) + :gap_ms)
RETURNING id;


-- report_running --
-- A report says that the provider has the job: adopt it.
UPDATE jobs
   SET state = 'running', provider_job_id = :provider_job_id, provider_status = :word, attempt = 0,
       lease = NULL, leased_until = NULL, deadline_at = submitted_at + :deadline_ms, due_at = :now + :poll_ms
 WHERE id = :id AND provider_job_id IS NULL
   AND (state = 'submitting' OR (state = 'queued' AND attempt > 0))
   AND NOT EXISTS (SELECT 1 FROM jobs AS other
                    WHERE other.provider = jobs.provider AND other.provider_job_id = :provider_job_id)
RETURNING id;

-- report_word --
-- A running job's newest status word.
UPDATE jobs SET provider_status = :word
 WHERE id = :id AND state = 'running' AND provider_job_id = :provider_job_id AND provider_status IS NOT :word
RETURNING id;

-- report_completed --
-- A report says that the output exists: copy it. A job that was paid for twice on its caller's wish takes either video.
UPDATE jobs
   SET state = 'mirroring', provider_job_id = :provider_job_id, provider_status = :word, attempt = 0,
       lease = NULL, leased_until = NULL, due_at = :now, outputs = :outputs, mirror_until = :mirror_until,
       cost = coalesce(:cost, cost)
 WHERE id = :id
   AND (state IN ('submitting', 'running') OR (state = 'queued' AND attempt > 0))
   AND (provider_job_id IS NULL OR provider_job_id = :provider_job_id OR (on_unknown = 'resubmit' AND doubts > 0))
   AND NOT EXISTS (SELECT 1 FROM jobs AS other
                    WHERE other.provider = jobs.provider AND other.provider_job_id = :provider_job_id
                      AND other.id <> :id)
RETURNING id;

-- report_recovered --
-- We had given up, and a report brings the finished video after all. Of a job that was paid for twice on its caller's
-- wish, one submission may fail while the other one brings the video. What a callback said before, with the same
-- outputs, is no news: said again and again, it would have them copied, given up and told again and again.
UPDATE jobs
   SET state = 'mirroring', provider_job_id = :provider_job_id, provider_status = :word, attempt = 0,
       lease = NULL, leased_until = NULL, due_at = :now, outputs = :outputs, mirror_until = :mirror_until,
       cost = coalesce(:cost, cost), finished_at = NULL, error_code = NULL, error = NULL
 WHERE id = :id AND submitted_at IS NOT NULL
   AND (state = 'expired'
        OR (state = 'failed' AND (error_code IN ('submission_unknown', 'output_unavailable')
                                  OR (on_unknown = 'resubmit' AND doubts > 0))))
   AND (provider_job_id IS NULL OR provider_job_id = :provider_job_id OR (on_unknown = 'resubmit' AND doubts > 0))
   AND NOT EXISTS (SELECT 1 FROM jobs AS other
                    WHERE other.provider = jobs.provider AND other.provider_job_id = :provider_job_id
                      AND other.id <> :id)
   AND NOT (outputs = :outputs
            AND EXISTS (SELECT 1 FROM receipts
                         WHERE job_id = :id AND provider_job_id = :provider_job_id AND word = :word))
RETURNING id;

-- report_ended --
-- A report says that there will be no video; :state is failed, cancelled or expired.
UPDATE jobs
   SET state = :state, provider_job_id = :provider_job_id, provider_status = :word, attempt = 0,
       lease = NULL, leased_until = NULL, due_at = NULL, finished_at = :now, cost = coalesce(:cost, cost),
       error_code = :error_code, error = :error
 WHERE id = :id
   AND (state IN ('submitting', 'running') OR (state = 'queued' AND attempt > 0))
   AND (provider_job_id IS NULL OR provider_job_id = :provider_job_id)
   AND NOT EXISTS (SELECT 1 FROM jobs AS other
                    WHERE other.provider = jobs.provider AND other.provider_job_id = :provider_job_id
                      AND other.id <> :id)
RETURNING id;

-- bound_elsewhere --
-- Whether a provider's id belongs to another job than this one, or this one to another provider's id.
SELECT 1 AS yes FROM jobs
 WHERE (id <> :id AND provider = :provider AND provider_job_id = :provider_job_id)
    OR (id = :id AND provider_job_id IS NOT NULL AND provider_job_id <> :provider_job_id);

-- bind --
-- The provider's id of a job that we gave up on became known: look at it at once, and for as long as at a new one.
UPDATE jobs
   SET provider_job_id = :provider_job_id, provider_status = :word, due_at = :now, deadline_at = :now
 WHERE id = :id AND provider_job_id IS NULL AND submitted_at IS NOT NULL
   AND (state = 'expired' OR (state = 'failed' AND error_code = 'submission_unknown'))
   AND NOT EXISTS (SELECT 1 FROM jobs AS other
                    WHERE other.provider = jobs.provider AND other.provider_job_id = :provider_job_id)
RETURNING id;

-- rebind --
-- An id that came by hand, and that no report has confirmed, yields to another one: whoever asked about the wrong job
-- loses the lease. The job stays what it is, and is paid for once.
UPDATE jobs
   SET provider_job_id = :provider_job_id, provider_status = :word, attempt = 0, lease = NULL, leased_until = NULL,
       due_at = CASE WHEN state = 'running' THEN min(:now + :first_poll_ms, max(:now, deadline_at)) ELSE :now END,
       deadline_at = CASE WHEN state = 'running' THEN deadline_at ELSE :now END
 WHERE id = :id AND provider_status = 'attached'
   AND (state IN ('running', 'expired') OR (state = 'failed' AND error_code = 'submission_unknown'))
   AND (provider_job_id <> :provider_job_id OR (state = 'running' AND :word <> 'attached'))
   AND NOT EXISTS (SELECT 1 FROM jobs AS other
                    WHERE other.provider = jobs.provider AND other.provider_job_id = :provider_job_id
                      AND other.id <> :id)
RETURNING id;

-- usual_duration --
-- How long jobs of this job's provider and model usually take, once that is known.
SELECT usual_ms FROM durations WHERE (provider, model) = (SELECT provider, model FROM jobs WHERE id = :id);

-- learn_duration --
-- Move the usual duration of the job's model a fifth of the way to what this job took.
INSERT INTO durations (provider, model, usual_ms)
SELECT provider, model, max(1000, :now - submitted_at) FROM jobs WHERE id = :id
ON CONFLICT (provider, model) DO UPDATE SET usual_ms = (durations.usual_ms * 4 + excluded.usual_ms) / 5;

-- count_unknown_word --
-- Note a status word that no adapter knows.
INSERT INTO unknown_words (provider, word, times)
SELECT provider, :word, 1 FROM jobs WHERE id = :id
ON CONFLICT (provider, word) DO UPDATE SET times = unknown_words.times + 1;

-- upsert_receipt --
-- Keep a verified callback, once for all that say the same; its verdict tells whether any of them was applied.
INSERT INTO receipts (job_id, provider_job_id, word, verdict, first_at, last_at, headers, body)
VALUES (:job_id, :provider_job_id, :word, :verdict, :received_at, :received_at, :headers, :body)
ON CONFLICT (job_id, provider_job_id, word) DO UPDATE
   SET times = times + 1, last_at = excluded.last_at,
       verdict = CASE WHEN excluded.verdict = 'applied' THEN 'applied' ELSE verdict END;

-- receipts --
-- The verified callbacks about a job, in the order in which they came.
SELECT provider_job_id, word, verdict, times, first_at, last_at, headers, body FROM receipts
 WHERE job_id = :job_id ORDER BY first_at, rowid;


-- claim_mirrors --
-- Take jobs whose outputs are to be copied, those first that the provider will drop first.
UPDATE jobs
   SET attempt = attempt + 1, lease = :lease, leased_until = :until, due_at = :until
 WHERE id IN (SELECT id FROM jobs
               WHERE state = 'mirroring' AND provider = :provider AND due_at <= :now
                 AND (lease IS NULL OR leased_until <= :now)
               ORDER BY mirror_until, due_at LIMIT :limit)
   AND +state = 'mirroring' AND due_at <= :now AND (lease IS NULL OR leased_until <= :now)
RETURNING id;

-- upsert_artifact --
-- One output is in storage, whole.
INSERT INTO artifacts (job_id, idx, key, bytes, sha256, content_type, created_at, footage)
SELECT id, :index, :key, :bytes, :sha256, :content_type, :now, :footage FROM jobs
 WHERE id = :job_id AND state = 'mirroring' AND lease = :lease
ON CONFLICT (job_id, idx) DO UPDATE
   SET key = excluded.key, bytes = excluded.bytes, sha256 = excluded.sha256, content_type = excluded.content_type,
       created_at = excluded.created_at, footage = excluded.footage;

-- any_artifact --
-- Whether there is a stored copy of anything.
SELECT 1 AS yes FROM artifacts LIMIT 1;

-- keep_footage --
-- Somebody looked inside a video that was kept before.
UPDATE artifacts SET footage = :footage WHERE job_id = :job_id AND idx = :index RETURNING idx;

-- forget_artifacts --
-- Copies of another provider job's outputs are not this one's.
DELETE FROM artifacts WHERE job_id = :job_id;

-- mirrored --
-- Every output has its artifact: the job is done.
UPDATE jobs
   SET state = 'completed', lease = NULL, leased_until = NULL, due_at = NULL, finished_at = :now
 WHERE id = :id AND state = 'mirroring' AND lease = :lease
   AND NOT EXISTS (SELECT 1 FROM json_each(jobs.outputs) AS output
                    WHERE json_extract(output.value, '$.index') NOT IN (SELECT idx FROM artifacts WHERE job_id = :id))
RETURNING id;

-- mirror_again --
-- The copy did not work this time. When that was our fault, the provider gets its chance until a later time.
UPDATE jobs
   SET lease = NULL, leased_until = NULL, due_at = :due_at,
       mirror_until = max(mirror_until, coalesce(:mirror_until, mirror_until))
 WHERE id = :id AND state = 'mirroring' AND lease = :lease
RETURNING id;

-- give_up_mirror --
-- The output cannot be had any more.
UPDATE jobs
   SET state = 'failed', lease = NULL, leased_until = NULL, due_at = NULL, finished_at = :now,
       error_code = :error_code, error = :error
 WHERE id = :id AND state = 'mirroring' AND lease = :lease
RETURNING id;

-- remirror --
-- Somebody wants a given-up copy tried again.
UPDATE jobs
   SET state = 'mirroring', attempt = 0, lease = NULL, leased_until = NULL, due_at = :now, mirror_until = :mirror_until,
       finished_at = NULL, error_code = NULL, error = NULL
 WHERE id = :id AND state = 'failed' AND error_code = 'output_unavailable'
RETURNING id;

-- cancel --
-- Cancel a job that was not submitted; :doubted tells whether an earlier submission of it may have been accepted.
UPDATE jobs
   SET state = 'cancelled', due_at = NULL, finished_at = :now, error_code = :error_code, error = :error
 WHERE id = :id AND state = 'queued' AND (doubts > 0) = :doubted
RETURNING id;
