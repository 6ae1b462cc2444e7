-- ARGV: field, kind, how many arguments a row has, then per row: version and value, [expiry in ms].
-- Versions are compared word by word: `<` on strings follows the server's locale.
local refused, step = {}, tonumber(ARGV[3])
for i = 1, #KEYS - first do
  local key, at = KEYS[i + first], 4 + (i - 1) * step
  local blob, till = ARGV[at], nil
  if step == 2 then till = ARGV[at + 1] end
  local stored, keep = redis.call('GETRANGE', key, 0, 31), true
  if stored ~= '' then
    for place = 1, 29, 4 do
      local old, new = struct.unpack('>I4', stored, place), struct.unpack('>I4', blob, place)
      if old ~= new then keep = new > old break end
    end
  end
  if keep then
    if till and till ~= '' then redis.call('SET', key, blob, 'PXAT', till) else redis.call('SET', key, blob) end
  else refused[#refused + 1] = i - 1 end
end
return refused
