"""What Redis runs by itself, so that reading, deciding and writing are one step: scripts, sent by their hash."""

from __future__ import annotations

from hashlib import sha1

GONE = "ASOFGONE"
"""The error of a script that found no such table."""

LATER_MS = 10**14
"""Added to the expiry of rows that Redis must not remove by its own clock (3000 years)."""


class Script:
    """A script and its hash."""

    def __init__(self, text: str) -> None:
        self.text = text.encode()
        self.hash = sha1(self.text).hexdigest().encode()


# Which table must exist, where the script can see that: in a cluster it cannot, since the table's slot is another one.
_CHECK = """
local first = 0
if ARGV[1] ~= '' then
  if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return redis.error_reply('ASOFGONE no such table') end
  first = 1
end
"""
_KEEP = """
    if till and till ~= '' then redis.call('SET', key, blob, 'PXAT', till) else redis.call('SET', key, blob) end
"""

NEWEST = Script(
    _CHECK
    + """
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
  if keep then"""
    + _KEEP
    + """
  else refused[#refused + 1] = i - 1 end
end
return refused
"""
)

UNCHANGED = Script(
    _CHECK
    + """
-- ARGV: field, kind, how many arguments a row has, then per row: expected token or nothing, new token and value,
-- [expiry in ms]. A row that has its new token already was written by an attempt whose answer got lost.
local refused, step = {}, tonumber(ARGV[3])
for i = 1, #KEYS - first do
  local key, at = KEYS[i + first], 4 + (i - 1) * step
  local blob, till = ARGV[at + 1], nil
  if step == 3 then till = ARGV[at + 2] end
  local stored = redis.call('GETRANGE', key, 0, 7)
  if stored == ARGV[at] then"""
    + _KEEP
    + """
  elseif stored ~= string.sub(blob, 1, 8) then refused[#refused + 1] = i - 1 end
end
return refused
"""
)

UNCHANGED_SMALL = Script(
    _CHECK
    + """
-- As above, for small values of different keys: one command reads all rows and one writes them, which costs half.
-- ARGV: field, kind, expected tokens (zeros for nothing), new tokens, then values, then expiries in ms or none.
local refused, keys = {}, KEYS
if first == 1 then
  keys = {}
  for i = 2, #KEYS do keys[i - 1] = KEYS[i] end
end
local stored, sets, count = redis.call('MGET', unpack(keys)), {}, 0
local values, tills = 4, 4 + #keys
for i = 1, #keys do
  local old, new = stored[i], string.sub(ARGV[4], i * 8 - 7, i * 8)
  local token, till = old and string.sub(old, 1, 8) or '\\0\\0\\0\\0\\0\\0\\0\\0', ARGV[tills + i]
  if token == string.sub(ARGV[3], i * 8 - 7, i * 8) then
    local blob = new .. ARGV[values + i]
    if till and till ~= '' then redis.call('SET', keys[i], blob, 'PXAT', till)
    else sets[count + 1], sets[count + 2], count = keys[i], blob, count + 2 end
  elseif token ~= new then refused[#refused + 1] = i - 1 end
end
if count > 0 then redis.call('MSET', unpack(sets)) end
return refused
"""
)
"""For at most 1000 rows: Lua takes no more than 8000 arguments."""

PREPARE = Script("""
-- KEYS: tables, dropping; ARGV: field, kind. Answers the kind that the table has, or '' while it is being removed.
local kind = redis.call('HGET', KEYS[1], ARGV[1])
if kind then return kind end
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then return '' end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return ARGV[2]
""")

WRITE_PROGRESS = Script("""
-- KEYS: tables, facts; ARGV: field, kind, then names and values.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return redis.error_reply('ASOFGONE no such table') end
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
return #ARGV
""")

DROP = Script("""
-- KEYS: tables, dropping, facts; ARGV: field, kind, mark. From here on nothing is written to the table.
-- Answers whether rows may be there.
local kind = redis.call('HGET', KEYS[1], ARGV[1])
if kind and kind ~= ARGV[2] then return 0 end
if not kind and redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('UNLINK', KEYS[3])
return 1
""")

DROPPED = Script("""
-- KEYS: dropping; ARGV: field, mark. The rows are gone; a mark of someone else stays.
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then return redis.call('HDEL', KEYS[1], ARGV[1]) end
return 0
""")

REMOVE = Script("""
-- KEYS: tables, rows; ARGV: field. Removes rows while their table does not exist; -1 where it was made again.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then return -1 end
local removed = 0
for i = 2, #KEYS do removed = removed + redis.call('UNLINK', KEYS[i]) end
return removed
""")

EXPIRE = Script("""
-- KEYS: rows; ARGV: now in ms, what stands for "not by Redis's clock". Removes the rows that have expired.
local removed, now, later = 0, tonumber(ARGV[1]), tonumber(ARGV[2])
for i = 1, #KEYS do
  local till = redis.call('PEXPIRETIME', KEYS[i])
  if till >= later then till = till - later end
  if till > 0 and till <= now then removed = removed + redis.call('UNLINK', KEYS[i]) end
end
return removed
""")
