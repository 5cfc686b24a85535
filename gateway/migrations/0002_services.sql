-- A target may speak more than SSH: how it is reached is one JSON table with a key for each protocol.
ALTER TABLE targets RENAME COLUMN ssh TO services;
UPDATE targets SET services = json_object('ssh', json(services));
