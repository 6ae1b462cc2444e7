-- KEYS: tables, dropping, facts, marker; ARGV: field, kind, mark. From here on nothing is written to the table.
-- Returns whether rows may be there.
local kind = redis.call('HGET', KEYS[1], ARGV[1])
if kind and kind ~= ARGV[2] then return 0 end
if not kind and redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('UNLINK', KEYS[3], KEYS[4])
return 1
