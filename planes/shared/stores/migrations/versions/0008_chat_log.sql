-- Where messages are read, and where they are written too while they move to another log.

CREATE TABLE chat_log_place (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    live text,                          -- postgres or cql: what is read; null until it is migrated too
    also text,                          -- written as well, and removed from as well
    copied_to uuid,                     -- the last conversation that was copied to the other one
    verified jsonb                      -- what was compared with the other one, and when
);
INSERT INTO chat_log_place (live)
VALUES ((SELECT 'postgres' WHERE EXISTS (SELECT FROM chat_messages)));
GRANT SELECT ON chat_log_place TO polyplane_gateway;
