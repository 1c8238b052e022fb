-- End sessions of one user and, where ARGV[1] is not 0, every token below that version of the user
-- or of a membership; tell all gateways, which end the answers that those sessions have under way.
--
-- KEYS  1 the user's or the membership's version   2... the sessions
-- ARGV  1 version  2 seconds until every token of today has expired
--       3 the channel  4 what is said there
if tonumber(ARGV[1]) > tonumber(redis.call('GET', KEYS[1]) or '0') then
    redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
end
for number = 2, #KEYS do
    redis.call('HSET', KEYS[number], 'ended', 1)
    redis.call('EXPIRE', KEYS[number], ARGV[2])
end
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 0
