-- Forget all attempts of one account.
--
-- KEYS  the attempts
redis.call('DEL', unpack(KEYS))
return 0
