-- Stores a result and publishes it. Celery reads first and then writes, in two round trips. Seen in
-- celery 5.7.0 (not reported yet). Delete this script with ResultMixin._store_result.
-- KEYS: the result. ARGV: 1 the new value; 2 the seconds until it expires, or 0; 3 the old value.
-- If a value other than ARGV 3 is stored, returns that value and stores nothing.

local stored = redis.call('GET', KEYS[1]) or ''
if stored ~= ARGV[3] then return stored end
if ARGV[2] == '0' then
  redis.call('SET', KEYS[1], ARGV[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
end
redis.call('PUBLISH', KEYS[1], ARGV[1])
