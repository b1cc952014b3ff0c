-- Returns a message to its lists.
-- KEYS: unacked_index, unacked, the three of lease.keys, and the lists.
-- ARGV: 1 the delivery tag; 2 the record as it was read; 3 the command that pushes; 4 the message;
--   5 is 1 to return it only if the lease has ended.
-- Returns 1 if the message was returned, 0 if not, and -1 if the record has changed.

if ARGV[5] == '1' and redis.call('EXISTS', KEYS[4]) == 1 then return 0 end
local record = redis.call('HGET', KEYS[2], ARGV[1]) or ''
if record ~= ARGV[2] then return -1 end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('SREM', KEYS[5], ARGV[1])
if record == '' then return 0 end
for i = 6, #KEYS do redis.call(ARGV[3], KEYS[i], ARGV[4]) end
redis.call('HDEL', KEYS[2], ARGV[1])
return 1
