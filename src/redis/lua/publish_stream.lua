-- Appends to a stream and publishes, in one step.
--
-- KEYS   1 stream, 2 meta, 3 result of the idempotency key, if there is one
-- ARGV   1 publication, 2 size of the stream, 3 its ttl, 4 PUB/SUB channel, 5 ttl of the meta,
--        6 epoch if a new one is due, 7 ttl of the result, 8 "1" to send the publication before,
--        9 version ("0" for none), 10 its epoch, 11 identity of the master, 12 "1" if that is the
--        first identity it ever had, 13 identity of the master that the stream was moved from without
--        a loss, if there is one. Times to live in seconds; "0" for ever.
-- Gives  offset, epoch, "1" if answered from the result, "1" if the version was stale
-- Globals are looked up at each use, and this runs for every publication: 2 % of what it costs Redis.
local call, keys, argv = redis.call, KEYS, ARGV
if keys[3] then
    local result = call('hmget', keys[3], 's', 'e')
    if result[2] then
        return {result[1] or '0', result[2], '1', '0'}
    end
end
local meta = call('hmget', keys[2], 'e', 'f')
local epoch = meta[1]
if meta[2] ~= argv[11] then
    if epoch and (meta[2] == argv[13] or not meta[2] and argv[12] == '1') then
        call('hset', keys[2], 'f', argv[11])
    else
        epoch = argv[6]
        call('hset', keys[2], 'e', epoch, 'f', argv[11])
    end
end
if argv[9] ~= '0' then
    local seen = call('hmget', keys[2], 'v', 've', 's')
    if seen[1] and (argv[10] == '' or argv[10] == (seen[2] or ''))
        and tonumber(seen[1]) >= tonumber(argv[9]) then
        return {seen[3] or '0', epoch, '0', '1'}
    end
    call('hset', keys[2], 'v', argv[9], 've', argv[10])
end
local offset = call('hincrby', keys[2], 's', 1)
if argv[5] ~= '0' then
    call('expire', keys[2], argv[5])
end
local before = ''
if offset == 1 then
    -- The meta went before the stream did, by eviction perhaps: its entries have the same offsets.
    call('del', keys[1])
elseif argv[8] == '1' then
    local last = call('xrevrange', keys[1], '+', '-', 'COUNT', 1)
    if last[1] then
        for i = 1, #last[1][2], 2 do
            if last[1][2][i] == 'd' then
                before = last[1][2][i + 1]
            end
        end
    end
end
local id = string.format('%d', offset)
call('xadd', keys[1], 'MAXLEN', argv[2], id, 'd', argv[1])
call('expire', keys[1], argv[3])
local message
if argv[8] == '1' then
    message = '__d1:' .. id .. ':' .. epoch .. ':' .. #before .. ':' .. before .. ':' .. #argv[1] .. ':' .. argv[1]
else
    message = '__p1:' .. id .. ':' .. epoch .. '__' .. argv[1]
end
call('publish', argv[4], message)
if keys[3] then
    call('hset', keys[3], 'e', epoch, 's', id)
    call('expire', keys[3], argv[7])
end
return {id, epoch, '0', '0'}
