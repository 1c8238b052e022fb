-- Keep what PostgreSQL says of a session. Never revives an ended one, never lowers a version.
--
-- KEYS  1 the user's version  2 the membership's  3 the session
-- ARGV  1 the user's version  2 the membership's  3 their seconds to live
--       4 the session's seconds to live  5 the history in which the session was unknown, before
--       PostgreSQL was asked: what it said may have ended with a history that began since
--       6... fields of the session
local replication = redis.call('INFO', 'replication')
local history = tonumber(string.match(replication, 'master_replid:(%x%x%x%x%x%x%x%x%x%x%x%x)'), 16)
if history ~= tonumber(ARGV[5]) then
    return 0
end
for each = 1, 2 do
    if tonumber(ARGV[each]) >= tonumber(redis.call('GET', KEYS[each]) or '0') then
        redis.call('SET', KEYS[each], ARGV[each], 'EX', ARGV[3])
    end
end
local session = redis.call('HMGET', KEYS[3], 'ended', 'history')
if not session[1] and tonumber(session[2] or '0') ~= history then
    redis.call('DEL', KEYS[3])
    redis.call('HSET', KEYS[3], 'history', ARGV[5], unpack(ARGV, 6))
    redis.call('EXPIRE', KEYS[3], ARGV[4])
end
return 0
