-- Roles made on database servers for sessions: written down before they are made, and struck out when nothing is left of them.
CREATE TABLE made_roles (
    target TEXT NOT NULL,
    role   TEXT NOT NULL,
    noted  INTEGER NOT NULL,               -- when it was last about to be made
    PRIMARY KEY (target, role)
) STRICT, WITHOUT ROWID;
