-- Keep what PostgreSQL says of a session. Never revives an ended one, never lowers a version.
--
-- KEYS  1 the user's version  2 the membership's  3 the session
-- ARGV  1 the user's version  2 the membership's  3 their seconds to live
--       4 the session's seconds to live  5... fields of the session
for each = 1, 2 do
    if tonumber(ARGV[each]) >= tonumber(redis.call('GET', KEYS[each]) or '0') then
        redis.call('SET', KEYS[each], ARGV[each], 'EX', ARGV[3])
    end
end
if redis.call('EXISTS', KEYS[3]) == 0 then
    redis.call('HSET', KEYS[3], unpack(ARGV, 5))
    redis.call('EXPIRE', KEYS[3], ARGV[4])
end
return 0
