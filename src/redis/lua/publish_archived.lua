-- Appends to a stream and to the queue of what is to be archived, and publishes, in one step.
--
-- KEYS   5 result of the idempotency key, if there is one
-- ARGV   10 publication, 11 size of the stream, 12 its ttl, 13 PUB/SUB channel, 14 ttl of the meta,
--        15 ttl of the result, 16 "1" to send the publication before, 17 version ("0" for none), 18 its
--        epoch, 19 most entries of the queue, 20 "1" to leave it out of a full queue, 21 channel.
--        Times to live in seconds; "0" for ever.
-- Gives  offset, epoch, "1" if answered from the result, "1" if the version was stale, id of the entry
--        in the queue ("" if it was left out)
if KEYS[5] then
    local result = redis.call('hmget', KEYS[5], 's', 'e', 'a')
    if result[2] then
        return {result[1] or '0', result[2], '1', '0', result[3] or ''}
    end
end
local is_full = redis.call('xlen', KEYS[3]) >= tonumber(ARGV[19])
if is_full and ARGV[20] ~= '1' then
    return {'full'}
end
local meta = redis.call('hmget', KEYS[2], 'e', 'f', 's', 'i', 'n')
if not meta[4] then
    local unknown = take_up(meta)
    if unknown then
        return unknown
    end
end
fence(meta)
local epoch = meta[1]
if ARGV[17] ~= '0' then
    local seen = redis.call('hmget', KEYS[2], 'v', 've')
    if seen[1] and (ARGV[18] == '' or ARGV[18] == (seen[2] or ''))
        and tonumber(seen[1]) >= tonumber(ARGV[17]) then
        return {meta[3] or '0', epoch, '0', '1', ''}
    end
    redis.call('hset', KEYS[2], 'v', ARGV[17], 've', ARGV[18])
end

-- The id so many above another, or that of this millisecond if it is higher. Numbers are exact up to
-- 2^53 only, so an id is kept as millions and a rest.
local function id_above(last, by)
    local now = milliseconds()
    local rest = now % 1000000 * 1048576
    local millions = math.floor(now / 1000000) * 1048576 + math.floor(rest / 1000000)
    rest = rest % 1000000
    local next_rest = (tonumber(string.sub(last, -6)) or 0) + by
    local next_millions = (tonumber(string.sub(last, 1, -7)) or 0) + math.floor(next_rest / 1000000)
    next_rest = next_rest % 1000000
    if next_millions > millions or next_millions == millions and next_rest > rest then
        millions, rest = next_millions, next_rest
    end
    if millions > 9223372036854 or millions == 9223372036854 and rest > 775807 then
        millions, rest = 9223372036854, 775807
    end
    return string.format('%d%06d', millions, rest)
end

local offset = redis.call('hincrby', KEYS[2], 's', 1)
local before = ''
if offset == 1 then
    redis.call('del', KEYS[1])
elseif ARGV[16] == '1' then
    local last = redis.call('xrevrange', KEYS[1], '+', '-', 'COUNT', 1)
    if last[1] then
        for i = 1, #last[1][2], 2 do
            if last[1][2][i] == 'd' then
                before = last[1][2][i + 1]
            end
        end
    end
end
local id = string.format('%d', offset)
redis.call('xadd', KEYS[1], 'MAXLEN', ARGV[11], id, 'd', ARGV[10])
redis.call('expire', KEYS[1], ARGV[12])
local entry = ''
if is_full then
    -- The archive will not know this offset, so the meta must not be restored from it.
    redis.call('persist', KEYS[2])
else
    -- Offsets between were not archived; they have ids of their own if somebody fills them in.
    local message = id_above(meta[4], offset - tonumber(meta[5] or '0'))
    redis.call('hset', KEYS[2], 'i', message, 'n', id)
    entry = redis.call('xadd', KEYS[3], '*', 'c', ARGV[21], 'e', epoch, 'n', meta[5] or '0', 'o', id,
        'i', message, 'd', ARGV[10])
    if ARGV[14] ~= '0' then
        redis.call('expire', KEYS[2], ARGV[14])
    end
end
local published
if ARGV[16] == '1' then
    published = '__d1:' .. id .. ':' .. epoch .. ':' .. #before .. ':' .. before .. ':' .. #ARGV[10] .. ':' .. ARGV[10]
else
    published = '__p1:' .. id .. ':' .. epoch .. '__' .. ARGV[10]
end
redis.call('publish', ARGV[13], published)
if KEYS[5] then
    redis.call('hset', KEYS[5], 'e', epoch, 's', id, 'a', entry)
    redis.call('expire', KEYS[5], ARGV[15])
end
return {id, epoch, '0', '0', entry}
