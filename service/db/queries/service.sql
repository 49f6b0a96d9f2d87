-- The service as a whole: what providers offer, and how everything goes.


-- forget_models --
-- Forget what a provider offered.
DELETE FROM models WHERE provider = :provider;

-- insert_model --
-- A model that a provider offers.
INSERT INTO models (provider, id, model) VALUES (:provider, :id, :model) ON CONFLICT DO NOTHING;

-- models --
-- Everything that providers offer.
SELECT model FROM models ORDER BY id, provider;

-- lists_models --
-- Whether a provider is known to offer anything.
SELECT 1 AS yes FROM models WHERE provider = :provider LIMIT 1;

-- model_providers --
-- Who offers a model.
SELECT provider FROM models WHERE id = :id ORDER BY provider;


-- unknown_words --
-- The status words that no adapter knows, most frequent first.
SELECT provider, word, times FROM unknown_words ORDER BY times DESC LIMIT 20;

-- probe --
-- A write of no consequence, to see whether writing works.
INSERT INTO probes (id, at) VALUES (1, :now) ON CONFLICT (id) DO UPDATE SET at = excluded.at;
