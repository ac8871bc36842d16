-- Counts what was used in the place of what was reserved. KEYS: the counters. ARGV, two for each: the part, and by how much
-- it changes. A part that counts no more is left alone.
for index, key in ipairs(KEYS) do
  local slot = ARGV[index * 2 - 1]
  if redis.call('HEXISTS', key, slot) == 1 then redis.call('HINCRBY', key, slot, ARGV[index * 2]) end
end
return 0
