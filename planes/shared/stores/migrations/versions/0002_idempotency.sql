-- Requests that a client may repeat, and what they were answered.
SELECT 1;
