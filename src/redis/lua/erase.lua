-- Takes publications out of a stream; their offsets stay empty.
--
-- KEYS   1 stream, 2 meta
-- ARGV   1 epoch that the stream must be of, 2 first offset, 3 last offset
-- Gives  how many there were
if redis.call('hget', KEYS[2], 'e') ~= ARGV[1] then
    return 0
end
local count = 0
for _, entry in ipairs(redis.call('xrange', KEYS[1], ARGV[2], ARGV[3])) do
    count = count + redis.call('xdel', KEYS[1], entry[1])
end
return count
