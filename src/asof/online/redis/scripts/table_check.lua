-- Which table must exist, where the script can see that: in a cluster it cannot, since the table's slot is another one.
local first = 0
if ARGV[1] ~= '' then
  if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return redis.error_reply('ASOFGONE no such table') end
  first = 1
end
