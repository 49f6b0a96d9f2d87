-- Lists of jobs that are quick whatever they are filtered by: one filter leads through an index, newest first, and the
-- others are tried on the rows that are met, of which there are :most at most.


-- find --
-- A page of jobs from the index that :walk names. What is left NULL filters nothing, `id` is from :from_id on and below
-- :below_id. If there were :most jobs to meet, and :limit were not found among them, the last one is the row `stop`.
WITH walk (id) AS NOT MATERIALIZED (
    SELECT id FROM (SELECT id FROM jobs
                     WHERE :walk = 'all' AND id >= :from_id AND id < :below_id
                     ORDER BY id DESC LIMIT :most)
    UNION ALL
    SELECT id FROM (SELECT id FROM jobs
                     WHERE :walk = 'tenant' AND tenant = :tenant AND id >= :from_id AND id < :below_id
                     ORDER BY id DESC LIMIT :most)
    UNION ALL
    SELECT id FROM (SELECT id FROM jobs
                     WHERE :walk = 'state' AND state = :state AND id >= :from_id AND id < :below_id
                     ORDER BY id DESC LIMIT :most)
    UNION ALL
    SELECT id FROM (SELECT id FROM jobs
                     WHERE :walk = 'tenant_state' AND tenant = :tenant AND state = :state
                       AND id >= :from_id AND id < :below_id
                     ORDER BY id DESC LIMIT :most)
    UNION ALL
    SELECT id FROM (SELECT id FROM jobs
                     WHERE :walk = 'model' AND model = :model AND id >= :from_id AND id < :below_id
                     ORDER BY id DESC LIMIT :most)
    UNION ALL
    SELECT id FROM (SELECT id FROM jobs
                     WHERE :walk = 'error' AND error_code = :error AND id >= :from_id AND id < :below_id
                     ORDER BY id DESC LIMIT :most)
)
SELECT job_rows.*, 0 AS stop FROM walk CROSS JOIN job_rows USING (id)
 WHERE (:tenant IS NULL OR tenant = :tenant)
   AND (:state IS NULL OR state = :state)
   AND (:provider IS NULL OR provider = :provider)
   AND (:model IS NULL OR model = :model)
   AND (:error IS NULL OR error_code = :error)
   AND (:created_after IS NULL OR created_at >= :created_after)
   AND (:created_before IS NULL OR created_at < :created_before)
UNION ALL
SELECT job_rows.*, 1 FROM (SELECT id FROM walk LIMIT 1 OFFSET :most - 1) AS walk CROSS JOIN job_rows USING (id)
LIMIT :limit;

-- find_words --
-- The same through the index of words, from the number :below_number on.
WITH walk (number) AS NOT MATERIALIZED (
    SELECT rowid FROM search WHERE search MATCH :words AND rowid < :below_number ORDER BY rowid DESC LIMIT :most
)
SELECT job_rows.*, 0 AS stop
  FROM walk CROSS JOIN searchable USING (number) CROSS JOIN job_rows ON job_rows.id = searchable.job_id
 WHERE (:tenant IS NULL OR job_rows.tenant = :tenant)
   AND (:state IS NULL OR state = :state)
   AND (:provider IS NULL OR provider = :provider)
   AND (:model IS NULL OR model = :model)
   AND (:error IS NULL OR error_code = :error)
   AND (:created_after IS NULL OR created_at >= :created_after)
   AND (:created_before IS NULL OR created_at < :created_before)
UNION ALL
SELECT job_rows.*, 1
  FROM (SELECT number FROM walk LIMIT 1 OFFSET :most - 1) AS walk
       CROSS JOIN searchable USING (number) CROSS JOIN job_rows ON job_rows.id = searchable.job_id
LIMIT :limit;

-- search_number --
-- The place of a job among those that can be searched, or of the one before where it was.
SELECT job_id, number FROM searchable WHERE job_id <= :id ORDER BY job_id DESC LIMIT 1;

-- not_indexed --
-- Whether there are jobs whose words are not in the index yet.
SELECT 1 AS yes FROM search_progress WHERE id = 1 AND indexed < (SELECT max(number) FROM searchable);

-- index_words --
-- Add the words of all jobs to the index.
UPDATE search_progress SET indexed = (SELECT max(number) FROM searchable)
 WHERE id = 1 AND indexed < (SELECT max(number) FROM searchable);

-- common_word --
-- Whether :most jobs have these words.
SELECT 1 AS yes FROM (SELECT 1 FROM search WHERE search MATCH :words LIMIT 1 OFFSET :most - 1);

-- jobs_at_providers --
-- The jobs that any provider calls by this name.
SELECT id FROM jobs WHERE provider IN (SELECT provider FROM providers) AND provider_job_id = :provider_job_id;
