-- Messages that moved leave the log before, which takes a while and may be interrupted.

ALTER TABLE chat_log_place
    ADD COLUMN leaving text;            -- no longer written, still removed from, and being emptied
