-- Which of the service's secret keys was the current one, and when.


-- orphans --
-- How many jobs still expect a callback at an address that was made with a key which is not among :key_ids any more.
SELECT count(*) AS jobs FROM jobs
 WHERE state IN ('submitting', 'running')
   AND (SELECT key_id FROM key_eras WHERE since <= jobs.submitted_at ORDER BY since DESC LIMIT 1)
       NOT IN (SELECT value FROM json_each(:key_ids));

-- current_era --
-- The key that makes what is new.
SELECT key_id FROM key_eras WHERE since <= :now ORDER BY since DESC LIMIT 1;

-- begin_era --
-- From now on this key makes what is new.
INSERT INTO key_eras (since, key_id) VALUES (:now, :key_id) ON CONFLICT (since) DO UPDATE SET key_id = excluded.key_id;
