-- ARGV: field, kind, how many arguments a row has, then per row: expected token or nothing, new token and value,
-- [expiry in ms]. A row that has its new token already was written by an attempt whose answer got lost.
local refused, step = {}, tonumber(ARGV[3])
for i = 1, #KEYS - first do
  local key, at = KEYS[i + first], 4 + (i - 1) * step
  local blob, till = ARGV[at + 1], nil
  if step == 3 then till = ARGV[at + 2] end
  local stored = redis.call('GETRANGE', key, 0, 7)
  if stored == ARGV[at] then
    if till and till ~= '' then redis.call('SET', key, blob, 'PXAT', till) else redis.call('SET', key, blob) end
  elseif stored ~= string.sub(blob, 1, 8) then refused[#refused + 1] = i - 1 end
end
return refused
