-- The generic cell rate algorithm (ITU-T I.371) for one key, by the server's clock.
--
-- KEYS  1 when the next request is due (µs)
-- ARGV  1 limit a minute
-- Returns 0 where the request may pass, else the ms to wait.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local interval = math.floor(60000000 / tonumber(ARGV[1]))
local burst = interval * tonumber(ARGV[1])
local due = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now) + interval
if due - now > burst then
    return math.ceil((due - now - burst) / 1000)
end
redis.call('SET', KEYS[1], string.format('%.0f', due), 'PX', math.ceil((due - now) / 1000))
return 0
