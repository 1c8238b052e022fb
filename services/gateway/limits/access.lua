-- One authenticated request: is its session alive, is its token current, does a limit let it through?
-- The limit is the generic cell rate algorithm (ITU-T I.371), by the server's clock.
--
-- KEYS  1 the user's version   2 the session   3 when the user's next request is due (µs)
-- ARGV  1 the token's version  2 the endpoint class, the session's field with its limit a minute
-- Returns {status, limit, remaining, µs until all is replenished, µs until one more is allowed}.
local ADMITTED, LIMITED, REVOKED, UNKNOWN = 0, 1, 2, 3
local WINDOW_US = 60000000

local session = redis.call('HMGET', KEYS[2], 'ended', ARGV[2])
if session[1] then
    return {REVOKED}
end
local version = tonumber(redis.call('GET', KEYS[1]) or '0')
local limit = tonumber(session[2] or '0')
if limit == 0 or version < tonumber(ARGV[1]) then
    return {UNKNOWN}
end
if version > tonumber(ARGV[1]) then
    return {REVOKED}
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local interval = math.floor(WINDOW_US / limit)
local burst = interval * limit
local due = math.max(tonumber(redis.call('GET', KEYS[3]) or '0'), now)
if due + interval - now > burst then
    return {LIMITED, limit, 0, due - now, due + interval - now - burst}
end
due = due + interval
redis.call('SET', KEYS[3], string.format('%.0f', due), 'PX', math.ceil((due - now) / 1000))
return {ADMITTED, limit, math.floor((burst - (due - now)) / interval), due - now, 0}
