-- Removes a client from a channel's presence.
--
-- KEYS   1 expiry of clients, 2 clients, 3 expiry of users, 4 clients of each user
-- ARGV   1 client, 2 its user, 3 "1" if users are counted
local was_there = redis.call('hdel', KEYS[2], ARGV[1]) == 1
redis.call('zrem', KEYS[1], ARGV[1])
if ARGV[3] == '1' and was_there and redis.call('hincrby', KEYS[4], ARGV[2], -1) <= 0 then
    redis.call('zrem', KEYS[3], ARGV[2])
    redis.call('hdel', KEYS[4], ARGV[2])
end
