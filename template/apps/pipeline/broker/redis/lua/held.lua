-- Returns delivery tags that a worker without a lease holds. Removes a worker that holds none.
-- KEYS: the three of lease.keys. ARGV: 1 the worker; 2 how many at most.

if redis.call('EXISTS', KEYS[2]) == 1 then return {} end
local tags = redis.call('SRANDMEMBER', KEYS[3], ARGV[2])
if #tags == 0 then redis.call('SREM', KEYS[1], ARGV[1]) end
return tags
