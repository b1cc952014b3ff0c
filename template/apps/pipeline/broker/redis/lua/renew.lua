-- Renews a lease.
-- KEYS: the three of lease.keys. ARGV: 1 the worker; 2 the lease in seconds.
-- Returns 1 if the lease had not ended.

local renewed = redis.call('EXPIRE', KEYS[2], ARGV[2])
if renewed == 0 then redis.call('SET', KEYS[2], '', 'EX', ARGV[2]) end
redis.call('SADD', KEYS[1], ARGV[1])
return renewed
