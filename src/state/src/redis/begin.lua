-- Takes a key for a call unless a call has it. KEYS: the key. ARGV: digest of the payload; name of the call; for how many
-- milliseconds it may run, and for how many the key stands for it; 1 to take it, 0 to look only.
-- Gives 1 if it was taken, 0 if nobody has it; or 2, the payload, the call, its state, the milliseconds that it may run
-- still, and its answer.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local found = redis.call('HMGET', KEYS[1], 'payload', 'call', 'state', 'until', 'answer')
if found[2] then
  local left = math.max(0, (tonumber(found[4]) or 0) - now)
  return { 2, found[1] or '', found[2], found[3] or '', left, found[5] or '' }
end
if ARGV[5] == '0' then return { 0, '', '', '', 0, '' } end
local till = string.format('%.0f', now + tonumber(ARGV[3]))
redis.call('HSET', KEYS[1], 'payload', ARGV[1], 'call', ARGV[2], 'state', 'running', 'until', till)
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return { 1, '', '', '', 0, '' }
