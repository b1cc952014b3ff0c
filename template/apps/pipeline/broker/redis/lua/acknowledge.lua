-- Removes the records of messages.
-- KEYS: unacked_index, unacked, the tags that the worker holds. ARGV: the delivery tags.

for _, tag in ipairs(ARGV) do
  redis.call('ZREM', KEYS[1], tag)
  redis.call('HDEL', KEYS[2], tag)
  redis.call('SREM', KEYS[3], tag)
end
