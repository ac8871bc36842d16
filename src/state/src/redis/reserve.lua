-- Counts all claims or none. KEYS: the counters, each with its member after it if it has one. ARGV, four for each: "day", "month" or
-- the width of a part of the window in microseconds; the amount; the limit; 1 if there is a member. A counter is a hash of parts and
-- what was counted in them; a member one of the part that it is counted in and how many calls have used it.
-- Gives 1 and for each claim its part and what is left; or 0, the claim, what is left, and the microseconds to wait (-1:
-- no waiting helps). The arithmetic is that of counter.rs.
local SLOTS = 20
local DAY = 86400000000
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

local function month(day)
  day = day + 719468
  local era, of_era = math.floor(day / 146097), day % 146097
  local year = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524)
    - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  return (era * 400 + year) * 12 + math.floor((5 * of_year + 2) / 153) + 2
end

local function first_day(number)
  local from_march = number - 2
  local year, of_year = math.floor(from_march / 12), from_march % 12
  local era, of_era = math.floor(year / 400), year % 400
  return era * 146097 + of_era * 365 + math.floor(of_era / 4) - math.floor(of_era / 100)
    + math.floor((153 * of_year + 2) / 5) - 719468
end

local function slot_of(span)
  if span == 'month' then return month(math.floor(now / DAY)) end
  return math.floor(now / (span == 'day' and DAY or tonumber(span)))
end

local function before(span)
  if span == 'month' or span == 'day' then return 0 end
  return SLOTS
end

local function end_of(span, slot)
  local after = slot + before(span) + 1
  if span == 'month' then return first_day(after) * DAY end
  return after * (span == 'day' and DAY or tonumber(span))
end

local claims, new_members, at = {}, {}, 0
for index = 1, #ARGV / 4 do
  local span, amount, limit = ARGV[index * 4 - 3], tonumber(ARGV[index * 4 - 2]), tonumber(ARGV[index * 4 - 1])
  at = at + 1
  local key, member, known = KEYS[at], nil, nil
  local fields = redis.call('HGETALL', key)
  local slots, newest, over = {}, slot_of(span), {}
  for field = 1, #fields, 2 do
    slots[#slots + 1] = { tonumber(fields[field]), tonumber(fields[field + 1]) }
    newest = math.max(newest, tonumber(fields[field]))
  end
  local earlier = 0
  if ARGV[index * 4] == '1' then
    at = at + 1
    member = KEYS[at]
    local found = redis.call('HGETALL', member)
    if found[1] then
      newest = math.max(newest, tonumber(found[1]))
      if tonumber(found[1]) + before(span) >= newest then known = { found[1], tonumber(found[2]) } end
    end
    if not known then
      earlier = new_members[key] or 0
      new_members[key] = earlier + 1
    end
  end
  table.sort(slots, function(a, b) return a[1] < b[1] end)
  local used = 0
  for _, slot in ipairs(slots) do
    if slot[1] + before(span) < newest then over[#over + 1] = slot[1] else used = used + slot[2] end
  end
  local wanted = amount + earlier
  if not known and used + wanted > limit then
    local wait = -1
    if wanted <= limit then
      wait = 0
      local held = used
      for _, slot in ipairs(slots) do
        if slot[1] + before(span) >= newest and held > limit - wanted then
          held = held - slot[2]
          wait = math.max(0, end_of(span, slot[1]) - now)
        end
      end
    end
    return { 0, index - 1, math.max(0, limit - used - earlier), wait }
  end
  local left = known and limit - used - (new_members[key] or 0) or limit - used - wanted
  claims[index] = { key, span, newest, amount, math.max(0, left), over, member, known }
end

local granted = { 1 }
for _, claim in ipairs(claims) do
  local key, span, slot, amount, left, over, member, known = unpack(claim, 1, 8)
  local field, ends = string.format('%.0f', slot), string.format('%.0f', math.floor(end_of(span, slot) / 1000) + 1000)
  for _, old in ipairs(over) do redis.call('HDEL', key, string.format('%.0f', old)) end
  if member then
    local uses = known and known[2] or 0
    if known and known[1] ~= field and redis.call('HEXISTS', key, known[1]) == 1 then
      redis.call('HINCRBY', key, known[1], -1)
    end
    if known and known[1] == field then amount = 0 end
    redis.call('DEL', member)
    redis.call('HSET', member, field, string.format('%.0f', uses + 1))
    redis.call('PEXPIREAT', member, ends)
  end
  redis.call('HINCRBY', key, field, string.format('%.0f', amount))
  redis.call('PEXPIREAT', key, ends)
  granted[#granted + 1] = slot
  granted[#granted + 1] = left
end
return granted
