-- Adds clients to a channel's presence, or renews what is known of them.
--
-- KEYS   1 expiry of clients, 2 clients, 3 expiry of users, 4 clients of each user
-- ARGV   1 ttl of the keys in seconds, 2 when the entries end in unix seconds, 3 "1" to count users;
--        4 "1" to let fields expire by themselves; then of each client: id, what is known of it, user
local counts_users, fields_expire = ARGV[3] == '1', ARGV[4] == '1'
local infos, ends, users = {}, {}, {}
for i = 5, #ARGV, 3 do
    local client, info, user = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    if not fields_expire then
        ends[#ends + 1] = ARGV[2]
        ends[#ends + 1] = client
    end
    if counts_users then
        users[#users + 1] = ARGV[2]
        users[#users + 1] = user
        if redis.call('hexists', KEYS[2], client) == 0 then
            redis.call('hincrby', KEYS[4], user, 1)
        end
    end
    infos[#infos + 1] = client
    infos[#infos + 1] = info
end
redis.call('hset', KEYS[2], unpack(infos))
redis.call('expire', KEYS[2], ARGV[1])
if fields_expire then
    for i = 1, #infos, 2 do
        redis.call('hexpire', KEYS[2], ARGV[1], 'FIELDS', '1', infos[i])
    end
else
    redis.call('zadd', KEYS[1], unpack(ends))
    redis.call('expire', KEYS[1], ARGV[1])
end
if counts_users then
    redis.call('zadd', KEYS[3], unpack(users))
    redis.call('expire', KEYS[3], ARGV[1])
    redis.call('expire', KEYS[4], ARGV[1])
end
