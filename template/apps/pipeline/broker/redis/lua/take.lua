-- Acknowledges messages, takes messages from lists, and records them. Kombu takes and records in
-- two steps. Seen in kombu 5.7.0 (kombu #305, celery #7950). Delete this script once fixed.
-- A record has a new delivery tag, and the time of Redis' clock. Kombu keeps the publisher's tag,
-- and uses the worker's clock. Seen in kombu 5.7.0 (not reported yet). Delete these with the
-- script.
-- KEYS: unacked_index, unacked, undecodable, the three of lease.keys, the two of
--   polling.watch_keys, and the lists.
-- ARGV: 1 the worker, or '' if it has no lease; 2 the lease in seconds; 3 a digit for each list: 1
--   to record its messages, else 0; 4 the channel, or '' if it does not wait; 5 how many channels
--   may watch; 6 for how many seconds a channel counts as watching; 7 how many messages to
--   acknowledge; from 8 on, their delivery tags; then a new delivery tag for each message to take.
-- Returns {list, message, delivery tag} for each message, and 1 if the channel may watch. The
-- message is nil if it was moved to the list `undecodable`. If a client sends the same command
-- again, because the answer was late, it gets no messages.

local taken = {}
local first = 8 + tonumber(ARGV[7])
for i = 8, first - 1 do
  redis.call('ZREM', KEYS[1], ARGV[i])
  redis.call('HDEL', KEYS[2], ARGV[i])
  redis.call('SREM', KEYS[6], ARGV[i])
end
if redis.call('HEXISTS', KEYS[2], ARGV[first]) == 1 then return {taken, 0} end
local now = redis.call('TIME')
local score = now[1] + now[2] / 1000000
local room = #ARGV - first + 1
for i = 9, #KEYS do
  while #taken < room do
    local message = redis.call('RPOP', KEYS[i])
    if not message then break end
    local decoded, payload = pcall(cjson.decode, message)
    if not decoded then  -- cjson refuses half of a surrogate pair, which Python allows
      local replaced = string.gsub(message, '\\u[dD][89a-fA-F]%x%x', '\\uFFFD')
      decoded, payload = pcall(cjson.decode, replaced)
    end
    local info = decoded and type(payload) == 'table' and type(payload.properties) == 'table'
      and payload.properties.delivery_info
    if type(info) ~= 'table' then
      redis.call('LPUSH', KEYS[3], message)
      taken[#taken + 1] = {KEYS[i], false, ''}
    else
      local tag = ARGV[#taken + first]
      if string.sub(ARGV[3], i - 8, i - 8) == '1' then
        redis.call('ZADD', KEYS[1], score, tag)
        redis.call('HSET', KEYS[2], tag, '[' .. message .. ',' .. cjson.encode(info.exchange or '')
          .. ',' .. cjson.encode(info.routing_key or '') .. ']')
        if ARGV[1] ~= '' then
          redis.call('SADD', KEYS[6], tag)
          redis.call('SADD', KEYS[4], ARGV[1])
          redis.call('SET', KEYS[5], '', 'NX', 'EX', ARGV[2])
        end
      end
      taken[#taken + 1] = {KEYS[i], message, tag}
    end
  end
end
if ARGV[4] == '' then return {taken, 0} end
if #taken == 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[7], '-inf', score)
  if not redis.call('ZSCORE', KEYS[7], ARGV[4])
    and redis.call('ZCARD', KEYS[7]) >= tonumber(ARGV[5]) then return {taken, 0} end
  redis.call('ZADD', KEYS[7], score + ARGV[6], ARGV[4])
  redis.call('EXPIRE', KEYS[7], ARGV[6])
  return {taken, 1}
end
if (redis.call('ZREM', KEYS[7], ARGV[4]) == 1 or #taken == room)
  and redis.call('EXISTS', KEYS[8]) == 0 then
  redis.call('LPUSH', KEYS[8], '')
  redis.call('EXPIRE', KEYS[8], ARGV[6])
end
return {taken, 0}
