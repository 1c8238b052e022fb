-- One authenticated request: is its session alive, is its token current, do its limits let it pass?
-- Each limit is the generic cell rate algorithm (ITU-T I.371), by the server's clock; a request
-- counts against all of them or, where one refuses it, against none.
--
-- KEYS  1 the user's version   2 the membership's   3 the session
--       4... when the next request of each limit is due (µs)
-- ARGV  1 the token's version of the user   2 of the membership
--       3... for each limit the session's field with its requests a minute
--       then for each limit the µs from now to when the caller believes it due: 0 if unknown
--       then for each limit the history in which the caller learned that: 0 if it counted itself
-- Returns {status, history, then for each limit: requests a minute, remaining, µs until all is
-- replenished, µs until one more is allowed}; no limits where the session is not known to be alive.
--
-- A history begins with each start of a server and each promotion of a replica, which may lack the
-- last that was written before. So what was remembered in another one counts as unknown: an end of
-- that session may be among what was lost.
local ADMITTED, LIMITED, ENDED, UNKNOWN, OUTDATED = 0, 1, 2, 3, 4
local WINDOW_US = 60000000
local count = #KEYS - 3

local replication = redis.call('INFO', 'replication')
local history = tonumber(string.match(replication, 'master_replid:(%x%x%x%x%x%x%x%x%x%x%x%x)'), 16)
local session = redis.call('HMGET', KEYS[3], 'ended', 'history', unpack(ARGV, 3, count + 2))
if session[1] then
    return {ENDED, history}
end
local lacks = false
for each = 1, 2 do -- one that Redis has lost is below every token's
    local version = tonumber(redis.call('GET', KEYS[each]) or '-1')
    if version > tonumber(ARGV[each]) then
        return {OUTDATED, history}
    end
    lacks = lacks or version < tonumber(ARGV[each])
end
if lacks or tonumber(session[2] or '0') ~= history then
    return {UNKNOWN, history}
end
for each = 1, count do
    if not session[each + 2] then
        return {UNKNOWN, history}
    end
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local intervals, dues, status = {}, {}, ADMITTED
for each = 1, count do
    local limit = tonumber(session[each + 2])
    local interval = math.floor(WINDOW_US / limit)
    local stored = redis.call('GET', KEYS[each + 3])
    dues[each] = math.max(tonumber(stored or '0'), now)
    if not stored or tonumber(ARGV[2 * count + 2 + each]) ~= history then
        -- expired, dropped for want of memory, or older than what the caller knows
        local known = math.min(tonumber(ARGV[count + 2 + each]), interval * limit)
        dues[each] = math.max(dues[each], now + known)
    end
    intervals[each] = interval
    if dues[each] + interval - now > interval * limit then
        status = LIMITED
    end
end

local answer = {status, history}
for each = 1, count do
    local limit, interval, due = tonumber(session[each + 2]), intervals[each], dues[each]
    local burst = interval * limit
    local wait = math.max(0, due + interval - now - burst)
    if status == ADMITTED then
        due = due + interval
        wait = 0
    end
    if due > now then -- also where it is refused: what the caller knew is known to all from now on
        local lives = math.ceil((due - now) / 1000)
        redis.call('SET', KEYS[each + 3], string.format('%.0f', due), 'PX', lives)
    end
    local remaining = math.max(0, math.floor((burst - (due - now)) / interval))
    for _, value in ipairs({limit, remaining, due - now, wait}) do
        answer[#answer + 1] = value
    end
end
return answer
