-- Publishes what is in no stream, unless its idempotency key was seen.
--
-- KEYS   1 result of the idempotency key
-- ARGV   1 publication, 2 PUB/SUB channel, 3 ttl of the result in seconds
-- Gives  offset, epoch, "1" if answered from the result
local result = redis.call('hmget', KEYS[1], 's', 'e')
if result[2] then
    return {result[1] or '0', result[2], '1'}
end
redis.call('publish', ARGV[2], ARGV[1])
redis.call('hset', KEYS[1], 'e', '', 's', '0')
redis.call('expire', KEYS[1], ARGV[3])
return {'0', '', '0'}
