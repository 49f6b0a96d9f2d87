-- When this file was copied from a service that went on running. A row here means that the file is a backup which
-- nobody has served yet: what it calls queued may have been submitted, and paid for, since.
CREATE TABLE backups (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    taken_at INTEGER NOT NULL
) STRICT;
