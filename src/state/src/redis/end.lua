-- Says what became of the call that has a key. KEYS: the key. ARGV: name of the call; `free`, `unanswered` or `answered`; the
-- answer. A key that another call has by now is left alone.
if redis.call('HGET', KEYS[1], 'call') ~= ARGV[1] then return 0 end
if ARGV[2] == 'free' then return redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'state', ARGV[2], 'answer', ARGV[3])
return 1
