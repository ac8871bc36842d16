-- Counts what was used in the place of what was reserved. KEYS: the counters, each with its member after it if it has one. ARGV,
-- four for each: the part, by how much it changes, the span as in reserve.lua, and 1 if there is a member. A part that counts no more is
-- left alone; a member is counted no more if the call that gives it back was its only use.
local SLOTS = 20
local at = 0

local function add(key, slot, change)
  if redis.call('HEXISTS', key, slot) == 1 then redis.call('HINCRBY', key, slot, change) end
end

for index = 1, #ARGV / 4 do
  local slot, change, span, has_member = unpack(ARGV, index * 4 - 3, index * 4)
  at = at + 1
  local key = KEYS[at]
  if has_member == '0' then
    add(key, slot, change)
  else
    at = at + 1
    local before = (span == 'day' or span == 'month') and 0 or SLOTS
    local found = redis.call('HGETALL', KEYS[at])
    if change == '-1' and found[1] and tonumber(slot) + before >= tonumber(found[1]) then
      if tonumber(found[2]) > 1 then
        redis.call('HINCRBY', KEYS[at], found[1], -1)
      else
        redis.call('DEL', KEYS[at])
        add(key, found[1], -1)
      end
    end
  end
end
return 0
