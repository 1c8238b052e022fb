-- Was an account signed in to from an address lately?
--
-- KEYS  1 the account's addresses
-- ARGV  1 the address  2 seconds for which one is known
-- Returns 1 or 0.
local seen = redis.call('ZSCORE', KEYS[1], ARGV[1])
if seen and tonumber(seen) > redis.call('TIME')[1] - ARGV[2] then
    return 1
end
return 0
