-- API keys: hashed, scoped, ended like sessions.
SELECT 1;
