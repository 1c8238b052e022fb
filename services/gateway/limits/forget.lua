-- Forget all attempts of one account.
--
-- KEYS  1 the attempts
redis.call('DEL', KEYS[1])
return 0
