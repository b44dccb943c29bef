-- Counts who is in a channel, without those whose time is over.
--
-- KEYS   1 expiry of clients, 2 clients, 3 expiry of users, 4 clients of each user
-- ARGV   1 now in unix seconds
-- Gives  clients, users
for first = 1, 3, 2 do
    local gone = redis.call('zrangebyscore', KEYS[first], '0', ARGV[1])
    for _, name in ipairs(gone) do
        redis.call('hdel', KEYS[first + 1], name)
    end
    if #gone > 0 then
        redis.call('zremrangebyscore', KEYS[first], '0', ARGV[1])
    end
end
return {redis.call('hlen', KEYS[2]), redis.call('hlen', KEYS[4])}
