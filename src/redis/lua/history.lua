-- Reads a stream: its top, and a part of it.
--
-- KEYS   1 stream, 2 meta
-- ARGV   1 "1" to read publications too, 2 first offset ("" from the end it starts at), 3 how many
--        ("0" for all), 4 "1" from the newest to the oldest, 5 ttl of the meta in seconds ("0" for
--        ever), 6 epoch if a new one is due, 7 identity of the master, 8 "1" if that is the first
--        identity it ever had, 9 identity of the master that the stream was moved from without a loss,
--        if there is one
-- Gives  top offset, epoch, entries
local meta = redis.call('hmget', KEYS[2], 'e', 'f', 's')
local epoch = meta[1]
if meta[2] ~= ARGV[7] then
    if epoch and (meta[2] == ARGV[9] or not meta[2] and ARGV[8] == '1') then
        redis.call('hset', KEYS[2], 'f', ARGV[7])
    else
        epoch = ARGV[6]
        redis.call('hset', KEYS[2], 'e', epoch, 'f', ARGV[7])
    end
end
if ARGV[5] ~= '0' then
    redis.call('expire', KEYS[2], ARGV[5])
end
local top = meta[3] or '0'
-- Without a top the entries are those of a meta that is gone.
if ARGV[1] ~= '1' or top == '0' then
    return {top, epoch, {}}
end
local call, first, last = 'xrange', '-', '+'
if ARGV[4] == '1' then
    call, first, last = 'xrevrange', '+', '-'
end
if ARGV[2] ~= '' then
    first = ARGV[2]
end
if ARGV[3] == '0' then
    return {top, epoch, redis.call(call, KEYS[1], first, last)}
end
return {top, epoch, redis.call(call, KEYS[1], first, last, 'COUNT', ARGV[3])}
