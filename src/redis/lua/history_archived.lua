-- Reads the stream of an archived channel: its top, and a part of it.
--
-- ARGV   10 "1" to read publications too, 11 first offset ("" from the end it starts at), 12 how many
--        ("0" for all), 13 "1" from the newest to the oldest, 14 ttl of the meta in seconds ("0" for
--        ever)
-- Gives  top offset, epoch, entries
local meta = redis.call('hmget', KEYS[2], 'e', 'f', 's', 'i', 'n')
if not meta[4] then
    local unknown = take_up(meta)
    if unknown then
        return unknown
    end
end
fence(meta)
local top = meta[3] or '0'
if (meta[5] or '0') ~= top then
    -- The archive does not know the top, so the meta must not be restored from it.
    redis.call('persist', KEYS[2])
elseif ARGV[14] ~= '0' then
    redis.call('expire', KEYS[2], ARGV[14])
end
if ARGV[10] ~= '1' or top == '0' then
    return {top, meta[1], {}}
end
local call, first, last = 'xrange', '-', '+'
if ARGV[13] == '1' then
    call, first, last = 'xrevrange', '+', '-'
end
if ARGV[11] ~= '' then
    first = ARGV[11]
end
if ARGV[12] == '0' then
    return {top, meta[1], redis.call(call, KEYS[1], first, last)}
end
return {top, meta[1], redis.call(call, KEYS[1], first, last, 'COUNT', ARGV[12])}
