-- KEYS: rows; ARGV: now in ms, what stands for "not by Redis's clock". Removes the rows that have expired.
local removed, now, later = 0, tonumber(ARGV[1]), tonumber(ARGV[2])
for i = 1, #KEYS do
  local till = redis.call('PEXPIRETIME', KEYS[i])
  if till >= later then till = till - later end
  if till > 0 and till <= now then removed = removed + redis.call('UNLINK', KEYS[i]) end
end
return removed
