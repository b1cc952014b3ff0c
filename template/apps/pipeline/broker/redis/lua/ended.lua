-- Returns the workers whose lease has ended.
-- KEYS: the workers. ARGV: 1 the prefix of their leases.

local ended = {}
for _, worker in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if redis.call('EXISTS', ARGV[1] .. worker) == 0 then ended[#ended + 1] = worker end
end
return ended
