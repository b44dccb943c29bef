-- Reads who is in a channel, without those whose time is over.
--
-- KEYS   1 expiry of clients, 2 clients
-- ARGV   1 now in unix seconds
-- Gives  client, what is known of it, client, ...
local gone = redis.call('zrangebyscore', KEYS[1], '0', ARGV[1])
for _, client in ipairs(gone) do
    redis.call('hdel', KEYS[2], client)
end
if #gone > 0 then
    redis.call('zremrangebyscore', KEYS[1], '0', ARGV[1])
end
return redis.call('hgetall', KEYS[2])
