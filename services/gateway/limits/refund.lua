-- Take one counted attempt back, with the wait that it began.
--
-- KEYS  1 the attempts of one account or address
if redis.call('EXISTS', KEYS[1]) == 0 then
    return 0
end
redis.call('HDEL', KEYS[1], 'last')
if redis.call('HINCRBY', KEYS[1], 'count', -1) < 1 then
    redis.call('DEL', KEYS[1])
end
return 0
