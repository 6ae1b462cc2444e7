-- KEYS: tables, marker; ARGV: field, kind. Marks a table that is there.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return redis.error_reply('ASOFGONE no such table') end
redis.call('SET', KEYS[2], '1')
return 1
