-- Updates the scores of the messages that a worker holds, for workers without leases.
-- Kombu uses the clock of the worker. Seen in kombu 5.7.0 (not reported yet). Delete this script
-- with the lease.
-- KEYS: the delivery tags that the worker holds, unacked_index. ARGV: 1 a cursor; 2 how many.
-- Returns the next cursor.

-- A write that changes nothing: see scripts.py.
redis.call('PERSIST', KEYS[2])
local now = redis.call('TIME')
local found = redis.call('SSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
for _, tag in ipairs(found[2]) do
  redis.call('ZADD', KEYS[2], 'XX', now[1] + now[2] / 1000000, tag)
end
return found[1]
