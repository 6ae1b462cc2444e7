-- KEYS: tables, facts; ARGV: field, kind, then names and values.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return redis.error_reply('ASOFGONE no such table') end
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
return #ARGV
