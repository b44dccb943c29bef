-- Appends to a stream and publishes, in one step.
--
-- KEYS   1 stream, 2 meta, 3 result of the idempotency key, if there is one
-- ARGV   1 publication, 2 size of the stream, 3 its ttl, 4 PUB/SUB channel, 5 ttl of the meta,
--        6 epoch if a new one is due, 7 ttl of the result, 8 "1" to send the publication before,
--        9 version ("0" for none), 10 its epoch, 11 identity of the master, 12 "1" if that is the
--        first identity it ever had, 13 identity of the master that the stream was moved from without
--        a loss, if there is one. Times to live in seconds; "0" for ever.
-- Gives  offset, epoch, "1" if answered from the result, "1" if the version was stale
if KEYS[3] then
    local result = redis.call('hmget', KEYS[3], 's', 'e')
    if result[2] then
        return {result[1] or '0', result[2], '1', '0'}
    end
end
local meta = redis.call('hmget', KEYS[2], 'e', 'f')
local epoch = meta[1]
if meta[2] ~= ARGV[11] then
    if epoch and (meta[2] == ARGV[13] or not meta[2] and ARGV[12] == '1') then
        redis.call('hset', KEYS[2], 'f', ARGV[11])
    else
        epoch = ARGV[6]
        redis.call('hset', KEYS[2], 'e', epoch, 'f', ARGV[11])
    end
end
if ARGV[9] ~= '0' then
    local seen = redis.call('hmget', KEYS[2], 'v', 've', 's')
    if seen[1] and (ARGV[10] == '' or ARGV[10] == (seen[2] or ''))
        and tonumber(seen[1]) >= tonumber(ARGV[9]) then
        return {seen[3] or '0', epoch, '0', '1'}
    end
    redis.call('hset', KEYS[2], 'v', ARGV[9], 've', ARGV[10])
end
local offset = redis.call('hincrby', KEYS[2], 's', 1)
if ARGV[5] ~= '0' then
    redis.call('expire', KEYS[2], ARGV[5])
end
local before = ''
if offset == 1 then
    -- The meta went before the stream did, by eviction perhaps: its entries have the same offsets.
    redis.call('del', KEYS[1])
elseif ARGV[8] == '1' then
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
redis.call('xadd', KEYS[1], 'MAXLEN', ARGV[2], id, 'd', ARGV[1])
redis.call('expire', KEYS[1], ARGV[3])
local message
if ARGV[8] == '1' then
    message = '__d1:' .. id .. ':' .. epoch .. ':' .. #before .. ':' .. before .. ':' .. #ARGV[1] .. ':' .. ARGV[1]
else
    message = '__p1:' .. id .. ':' .. epoch .. '__' .. ARGV[1]
end
redis.call('publish', ARGV[4], message)
if KEYS[3] then
    redis.call('hset', KEYS[3], 'e', epoch, 's', id)
    redis.call('expire', KEYS[3], ARGV[7])
end
return {id, epoch, '0', '0'}
