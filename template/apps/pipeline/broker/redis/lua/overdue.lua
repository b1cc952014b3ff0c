-- Returns the messages that are held without a lease for longer than the visibility timeout, and
-- updates the score of those with a lease.
-- Kombu uses the clock of the worker. Seen in kombu 5.7.0 (not reported yet). Delete this script
-- with QoS.restore_visible.
-- KEYS: unacked_index, the workers. ARGV: 1 the visibility timeout; 2 how many at most; 3 the
--   prefix of the sets of delivery tags that workers hold.

-- A write that changes nothing: see scripts.py.
redis.call('PERSIST', KEYS[1])
local now = redis.call('TIME')
local score = now[1] + now[2] / 1000000
local workers = redis.call('SMEMBERS', KEYS[2])
local overdue = {}
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', score - ARGV[1], 'LIMIT', 0, ARGV[2])
for _, tag in ipairs(old) do
  local held = 0
  for _, worker in ipairs(workers) do
    held = held + redis.call('SISMEMBER', ARGV[3] .. worker, tag)
  end
  if held == 0 then overdue[#overdue + 1] = tag else redis.call('ZADD', KEYS[1], score, tag) end
end
return overdue
