-- Count an attempt before it is made, so that parallel ones cannot slip through together.
--
-- KEYS  1 the attempts of one account or address
-- ARGV  1 attempts without a wait  2 longest wait (ms)  3 ms after which attempts are forgotten
-- Returns 0 where it may be made, else the ms to wait.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local open_at = tonumber(redis.call('HGET', KEYS[1], 'open_at') or '0')
if open_at > now then
    return open_at - now
end
local count = redis.call('HINCRBY', KEYS[1], 'count', 1)
local beyond = count - tonumber(ARGV[1])
if beyond >= 0 then
    local wait = math.min(1000 * 2 ^ math.min(beyond, 20), tonumber(ARGV[2]))
    redis.call('HSET', KEYS[1], 'open_at', string.format('%.0f', now + wait))
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 0
