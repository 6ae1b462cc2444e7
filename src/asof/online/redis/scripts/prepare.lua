-- KEYS: tables, dropping; ARGV: field, kind. Returns the kind that the table has, or '' while it is being removed.
local kind = redis.call('HGET', KEYS[1], ARGV[1])
if kind then return kind end
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then return '' end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return ARGV[2]
