-- Callers: their keys, which of their calls are one call, and what they are owed.


-- insert_api_key --
-- A new credential.
INSERT INTO api_keys (id, name, tenant, operator, hash, created_at, dedupe_window_ms, creates_per_minute)
VALUES (:id, :name, :tenant, :operator, :hash, :now, :dedupe_window_ms, :creates_per_minute);

-- api_key --
-- The credential with this hash, unless it was revoked.
SELECT * FROM api_keys WHERE hash = :hash AND revoked_at IS NULL;

-- api_keys --
-- Every credential, oldest first.
SELECT * FROM api_keys ORDER BY id;

-- revoke_api_key --
-- Make a credential useless.
UPDATE api_keys SET revoked_at = :now WHERE id = :id AND revoked_at IS NULL RETURNING *;


-- forget_sessions --
-- Forget sessions that have expired.
DELETE FROM sessions WHERE expires_at <= :now;

-- insert_session --
-- Somebody signed in with a key.
INSERT INTO sessions (hash, api_key_id, created_at, expires_at) VALUES (:hash, :api_key_id, :now, :expires_at);

-- trim_sessions --
-- End all but the :most newest sessions of a key.
DELETE FROM sessions
 WHERE hash IN (SELECT hash FROM sessions WHERE api_key_id = :api_key_id
                 ORDER BY created_at DESC, hash LIMIT -1 OFFSET :most);

-- session_key --
-- The credential that a session was opened with, unless the session has expired or the credential was revoked.
SELECT api_keys.* FROM sessions JOIN api_keys ON api_keys.id = sessions.api_key_id
 WHERE sessions.hash = :hash AND sessions.expires_at > :now AND api_keys.revoked_at IS NULL;

-- close_session --
-- Somebody signed out.
DELETE FROM sessions WHERE hash = :hash;


-- insert_idempotency_key --
-- Remember which job a caller's key made; no row back when the key was used before.
INSERT INTO idempotency_keys (tenant, operation, key, fingerprint, job_id, created_at)
VALUES (:tenant, :operation, :key, :fingerprint, :job_id, :now)
ON CONFLICT DO NOTHING
RETURNING job_id;

-- idempotency_key --
-- What a caller's key made when it was first used.
SELECT fingerprint, job_id FROM idempotency_keys WHERE tenant = :tenant AND operation = :operation AND key = :key;

-- repeated_calls --
-- Jobs that the same call made before: first those whose answer was never sent, the longest waiting one first; then
-- the others, those first that no call was repeated for, the newest of them first.
SELECT job_id, call, answered, created_at, called_at FROM creates
 WHERE api_key_id = :api_key_id AND operation = :operation AND fingerprint = :fingerprint AND called_at > :since
 ORDER BY answered, answered = 1 AND called_at > created_at, CASE answered WHEN 0 THEN called_at ELSE -called_at END
 LIMIT 100;

-- insert_create --
-- Remember which call made a job.
INSERT INTO creates (job_id, api_key_id, operation, fingerprint, call, created_at, called_at)
VALUES (:job_id, :api_key_id, :operation, :fingerprint, :call, :now, :now);

-- called_again --
-- Another call is to be answered with a job that was made before.
UPDATE creates SET call = :call, called_at = :now WHERE job_id = :job_id;

-- answered --
-- The answer to a call was sent: the same call made again is another job.
UPDATE creates SET answered = 1 WHERE call = :call AND answered = 0;

-- delete_create --
-- A deleted job answers no call any more.
DELETE FROM creates WHERE job_id = :job_id;

-- note_poor_provider --
-- A provider refused to spend: the account is out of credits.
INSERT INTO poor_providers (provider, at) VALUES (:provider, :now) ON CONFLICT (provider) DO UPDATE SET at = excluded.at;

-- forget_poor_provider --
-- A provider accepted a job: there are credits again.
DELETE FROM poor_providers WHERE provider = :provider;

-- poor_provider --
-- Whether a provider was out of credits a moment ago.
SELECT at FROM poor_providers WHERE provider = :provider AND at > :since;


-- insert_delivery --
-- A caller is to be told how its job ended; each end of a job is an event with an id of its own.
INSERT INTO deliveries (id, state, due_at, job_id, tenant, receiver, ended, error, created_at)
SELECT 'evt_' || :job_id || CASE count(*) WHEN 0 THEN '' ELSE '_' || (count(*) + 1) END,
       'pending', :now, :job_id, :tenant, :receiver, :ended, :error, :now
  FROM deliveries WHERE job_id = :job_id;

-- under_way --
-- How many deliveries are on their way to each receiver: no more rows than there are places to send them.
SELECT deliveries.tenant, deliveries.receiver, receivers.healthy, count(*) AS under_way
  FROM deliveries CROSS JOIN receivers USING (tenant, receiver)
 WHERE lease IS NOT NULL AND leased_until > :now
 GROUP BY deliveries.tenant, deliveries.receiver;

-- due_lanes --
-- Which tenants are owed something now, at receivers that took their last message and at others; the longest waiting
-- first.
WITH RECURSIVE tenants (tenant) AS (
    SELECT min(tenant) FROM receivers WHERE due_at IS NOT NULL
     UNION ALL
    SELECT (SELECT min(tenant) FROM receivers WHERE due_at IS NOT NULL AND tenant > tenants.tenant)
      FROM tenants WHERE tenants.tenant IS NOT NULL
), kinds (healthy) AS (VALUES (0), (1))
SELECT tenant, healthy
  FROM (SELECT tenant, healthy,
               (SELECT min(due_at) FROM receivers
                 WHERE tenant = tenants.tenant AND healthy = kinds.healthy AND due_at IS NOT NULL) AS since
          FROM tenants CROSS JOIN kinds WHERE tenant IS NOT NULL)
 WHERE since <= :now
 ORDER BY since;

-- due_receivers --
-- To whom something is owed now, of a tenant's receivers of one kind; the longest waiting first.
SELECT receiver FROM receivers
 WHERE tenant = :tenant AND healthy = :healthy AND due_at <= :now
 ORDER BY due_at LIMIT :most;

-- note_health --
-- Remember that a receiver took the last message that was sent to it.
UPDATE receivers SET healthy = 1
 WHERE (tenant, receiver) = (SELECT tenant, receiver FROM deliveries WHERE id = :id) AND healthy = 0;

-- note_trouble --
-- Remember that a receiver did not take the last message that was sent to it, and why.
UPDATE receivers SET healthy = 0, last_at = :at, last_status = :status, last_error = :error
 WHERE (tenant, receiver) = (SELECT tenant, receiver FROM deliveries WHERE id = :id);

-- failing --
-- Receivers that did not take something: it was given up, or is tried again. Those first whose last failure is the
-- newest.
SELECT tenant, receiver, failed, pending, waiting, last_error, last_status, last_at FROM receivers
 WHERE failed > 0 OR untaken > 0
 ORDER BY last_at DESC, tenant, receiver LIMIT :limit;

-- tenant_failing --
-- The same of one tenant.
SELECT tenant, receiver, failed, pending, waiting, last_error, last_status, last_at FROM receivers
 WHERE tenant = :tenant AND (failed > 0 OR untaken > 0)
 ORDER BY last_at DESC, receiver LIMIT :limit;

-- receiver --
-- How one receiver of a tenant does, whether it fails or not.
SELECT tenant, receiver, failed, pending, waiting, last_error, last_status, last_at FROM receivers
 WHERE tenant = :tenant AND receiver = :receiver;

-- tenants_failing --
-- The tenants whose receiver of this name did not take something.
SELECT tenant FROM receivers
 WHERE receiver = :receiver AND (failed > 0 OR untaken > 0)
 ORDER BY tenant LIMIT :limit;

-- later --
-- What a tenant's receiver did not take and will be sent again, the next one first: what nobody tried is due already.
SELECT * FROM deliveries
 WHERE tenant = :tenant AND receiver = :receiver AND due_at > :now AND lease IS NULL
 ORDER BY due_at LIMIT :limit;

-- failed --
-- What one receiver of a tenant was to be told and was given up, newest first.
SELECT * FROM deliveries
 WHERE tenant = :tenant AND receiver = :receiver AND state = 'failed' AND id < coalesce(:before_id, '~')
 ORDER BY id DESC LIMIT :limit;

-- claim_deliveries --
-- Take what is owed to one receiver. What was taken before and never noted, by a process that died, is the same attempt.
UPDATE deliveries
   SET attempt = attempt + (lease IS NULL), lease = :lease, leased_until = :until, due_at = :until
 WHERE id IN (SELECT id FROM deliveries
               WHERE tenant = :tenant AND receiver = :receiver AND due_at <= :now
                 AND (lease IS NULL OR leased_until <= :now)
               ORDER BY due_at LIMIT :limit)
   AND +state = 'pending' AND due_at <= :now AND (lease IS NULL OR leased_until <= :now)
RETURNING *;

-- renew_delivery --
-- Keep a lease; no row back when it was lost.
UPDATE deliveries SET leased_until = :until, due_at = :until WHERE id = :id AND lease = :lease RETURNING id;

-- end_delivery --
-- The receiver has it, or it was given up; :state says which.
UPDATE deliveries
   SET state = :state, untaken = (:state = 'failed'), lease = NULL, leased_until = NULL, due_at = NULL,
       finished_at = :now
 WHERE id = :id AND state = 'pending' AND lease = :lease
RETURNING id;

-- deliver_again --
-- The receiver did not take it this time.
UPDATE deliveries SET untaken = 1, lease = NULL, leased_until = NULL, due_at = :due_at
 WHERE id = :id AND state = 'pending' AND lease = :lease
RETURNING id;

-- interrupt_delivery --
-- Nobody waited for the answer: it counts as no attempt, and is sent again.
UPDATE deliveries SET attempt = attempt - 1, lease = NULL, leased_until = NULL, due_at = :now
 WHERE id = :id AND state = 'pending' AND lease = :lease
RETURNING id;

-- insert_delivery_attempt --
-- What came of one try.
INSERT INTO delivery_attempts (delivery_id, number, at, duration_ms, status, error, answer)
SELECT id, (SELECT coalesce(max(number), 0) + 1 FROM delivery_attempts WHERE delivery_id = :id),
       :at, :duration_ms, :status, :error, :answer
  FROM deliveries WHERE id = :id;

-- redeliver --
-- Somebody wants the newest message about a job sent once more; not while it is on its way.
UPDATE deliveries
   SET state = 'pending', attempt = 0, lease = NULL, leased_until = NULL, due_at = :now, finished_at = NULL
 WHERE id = (SELECT id FROM deliveries WHERE job_id = :job_id ORDER BY rowid DESC LIMIT 1)
   AND (lease IS NULL OR leased_until <= :now)
RETURNING *;

-- to_redeliver --
-- What a receiver was to be told and was given up, or waits after an attempt that failed: the next :limit after
-- :after_id.
SELECT id, state, ended FROM deliveries
 WHERE tenant = :tenant AND receiver = :receiver AND id > :after_id
   AND (state = 'failed' OR (state = 'pending' AND lease IS NULL AND attempt > 0))
 ORDER BY id LIMIT :limit;

-- redeliver_all --
-- Somebody wants these sent once more; what is due already keeps its place.
UPDATE deliveries
   SET state = 'pending', attempt = 0, lease = NULL, leased_until = NULL, due_at = min(coalesce(due_at, :now), :now),
       finished_at = NULL
 WHERE id IN (SELECT value FROM json_each(:ids));

-- job_deliveries --
-- The newest :most messages that a caller is owed about a job, newest first.
SELECT * FROM deliveries WHERE job_id = :job_id ORDER BY rowid DESC LIMIT :most;

-- delivery_attempts --
-- The newest :most tries to deliver something, newest first.
SELECT number, at, duration_ms, status, error, answer FROM delivery_attempts
 WHERE delivery_id = :delivery_id ORDER BY number DESC LIMIT :most;

-- last_attempts --
-- What came of the last try to deliver each of some things.
SELECT delivery_id, number, at, duration_ms, status, error, answer FROM delivery_attempts
 WHERE (delivery_id, number) IN (
     SELECT value, (SELECT max(number) FROM delivery_attempts WHERE delivery_id = value) FROM json_each(:ids));

-- delete_delivery_attempts --
-- Forget what came of the deliveries about a job.
DELETE FROM delivery_attempts WHERE delivery_id IN (SELECT id FROM deliveries WHERE job_id = :job_id);

-- delete_deliveries --
-- Nobody is owed anything about a deleted job.
DELETE FROM deliveries WHERE job_id = :job_id;
