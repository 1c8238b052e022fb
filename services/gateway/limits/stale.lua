-- Forget what Redis knows of sessions that go on, so that PostgreSQL is asked again.
--
-- KEYS  the sessions
for _, key in ipairs(KEYS) do
    if redis.call('HEXISTS', key, 'ended') == 0 then
        redis.call('DEL', key)
    end
end
return 0
