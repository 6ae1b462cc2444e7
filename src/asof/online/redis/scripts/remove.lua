-- KEYS: tables, rows; ARGV: field. Removes rows while their table does not exist; -1 where it was made again.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then return -1 end
local removed = 0
for i = 2, #KEYS do removed = removed + redis.call('UNLINK', KEYS[i]) end
return removed
