-- Lets entries leave an archive stream, and tells that they are stored.
--
-- KEYS   1 archive stream
-- ARGV   1 consumer group, 2 PUB/SUB channel, then numbers of entries: 1,000 at most
-- Gives  how many have left
local ids = {}
for i = 3, #ARGV do
    ids[#ids + 1] = ARGV[i]
end
redis.call('xack', KEYS[1], ARGV[1], unpack(ids))
local gone = redis.call('xdel', KEYS[1], unpack(ids))
redis.call('publish', ARGV[2], KEYS[1] .. ' ' .. table.concat(ids, ' '))
return gone
