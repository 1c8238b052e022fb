-- Note that an account was signed in to from an address; the newest few are kept.
--
-- KEYS  1 the account's addresses
-- ARGV  1 the address  2 how many are kept  3 seconds for which one is known
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], time[1] .. string.format('.%06d', time[2]), ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -ARGV[2] - 1)
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 0
