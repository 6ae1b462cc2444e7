-- KEYS: dropping; ARGV: field, mark. The rows are gone; a mark of someone else stays.
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then return redis.call('HDEL', KEYS[1], ARGV[1]) end
return 0
