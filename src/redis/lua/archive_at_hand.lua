-- Reads offsets of a stream that were never appended to the archive stream; nothing unless the stream
-- is in the epoch that is asked for, and its master the one under which that began. So what is at an
-- offset here is what was published at it.
--
-- KEYS   1 stream, 2 meta
-- ARGV   1 epoch, 2 identity of the master, 3 identity of the master that the stream was moved from
--        without a loss, if there is one, 4 first offset, 5 last offset, 6 how many at most
-- Gives  entries
local meta = redis.call('hmget', KEYS[2], 'e', 'f')
if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] and meta[2] ~= ARGV[3] then
    return {}
end
return redis.call('xrange', KEYS[1], ARGV[4], ARGV[5], 'COUNT', ARGV[6])
