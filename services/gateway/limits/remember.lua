-- Keep what PostgreSQL says of a session. Never revives an ended one, never lowers a version.
--
-- KEYS  1 the user's version  2 the session
-- ARGV  1 version  2 its seconds to live  3 the session's seconds to live  4... fields of the session
if tonumber(ARGV[1]) >= tonumber(redis.call('GET', KEYS[1]) or '0') then
    redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
end
if redis.call('EXISTS', KEYS[2]) == 0 then
    redis.call('HSET', KEYS[2], unpack(ARGV, 4))
    redis.call('EXPIRE', KEYS[2], ARGV[3])
end
return 0
