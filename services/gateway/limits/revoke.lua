-- End sessions of one user and, where ARGV[1] is not 0, every token below that version.
--
-- KEYS  1 the user's version  2... the sessions
-- ARGV  1 version  2 seconds until every token of today has expired
if tonumber(ARGV[1]) > tonumber(redis.call('GET', KEYS[1]) or '0') then
    redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
end
for number = 2, #KEYS do
    redis.call('HSET', KEYS[number], 'ended', 1)
    redis.call('EXPIRE', KEYS[number], ARGV[2])
end
return 0
