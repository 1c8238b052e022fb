-- The generic cell rate algorithm (ITU-T I.371) for one key, by the server's clock.
--
-- KEYS  1 when the next request is due (µs)
-- ARGV  1 limit a minute
-- Returns {remaining, µs until all is replenished, µs until one more is allowed: 0 if this one is}.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local interval = math.floor(60000000 / tonumber(ARGV[1]))
local burst = interval * tonumber(ARGV[1])
local due = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now)
if due + interval - now > burst then
    return {0, due - now, due + interval - now - burst}
end
due = due + interval
redis.call('SET', KEYS[1], string.format('%.0f', due), 'PX', math.ceil((due - now) / 1000))
return {math.floor((burst - (due - now)) / interval), due - now, 0}
