-- Since when the service makes new callback addresses and secrets with which of its secret keys: a name derived from
-- the key, nothing of the key itself. Tells whose callbacks will be rejected when a key is missing.
CREATE TABLE key_eras (
    since  INTEGER PRIMARY KEY,
    key_id TEXT NOT NULL
) STRICT;
