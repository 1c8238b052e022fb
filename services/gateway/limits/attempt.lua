-- Count an attempt before it is made, so that parallel ones cannot slip through together.
--
-- KEYS  1 the attempts of one account, of one address, or of both
-- ARGV  1 attempts without a wait  2 this caller's longest wait (ms)
--       3 ms after which attempts are forgotten
-- Returns {0, attempts with this one} where it may be made, else {ms to wait, attempts so far}.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local known = redis.call('HMGET', KEYS[1], 'count', 'last')
local count, last = tonumber(known[1] or '0'), tonumber(known[2] or '0')
local beyond = count - tonumber(ARGV[1])
if beyond >= 0 then
    local wait = math.min(1000 * 2 ^ math.min(beyond, 20), tonumber(ARGV[2]))
    if last + wait > now then
        return {last + wait - now, count}
    end
end
redis.call('HSET', KEYS[1], 'count', count + 1, 'last', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {0, count + 1}
