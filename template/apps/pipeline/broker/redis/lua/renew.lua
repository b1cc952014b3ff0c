-- Renews a lease.
-- KEYS: the three of lease.keys. ARGV: 1 the worker; 2 the lease in seconds.

if redis.call('EXPIRE', KEYS[2], ARGV[2]) == 0 then redis.call('SET', KEYS[2], '', 'EX', ARGV[2]) end
redis.call('SADD', KEYS[1], ARGV[1])
