-- Appends to a stream and publishes, with nothing that a failover would need: the steps of the key
-- layout that the gateway shares with Centrifugo, one by one. bench/compare holds the gateway's own
-- script against it.
--
-- KEYS   1 stream, 2 meta
-- ARGV   1 publication, 2 size of the stream, 3 its ttl, 4 PUB/SUB channel, 5 ttl of the meta,
--        6 epoch of a new stream, 7 command that publishes, 8 ttl of a result, 9 "1" to send the
--        publication before, 10 version ("0" for none), 11 its epoch; 8 to 11 are none here
-- Gives  offset, epoch, "0", "0"
local epoch = redis.call('hget', KEYS[2], 'e')
if not epoch then
    epoch = ARGV[6]
    redis.call('hset', KEYS[2], 'e', epoch)
end
local offset = redis.call('hincrby', KEYS[2], 's', 1)
if ARGV[5] ~= '0' then
    redis.call('expire', KEYS[2], ARGV[5])
end
if offset == 1 then
    redis.call('del', KEYS[1])
end
redis.call('xadd', KEYS[1], 'MAXLEN', ARGV[2], offset, 'd', ARGV[1])
redis.call('expire', KEYS[1], ARGV[3])
redis.call(ARGV[7], ARGV[4], '__p1:' .. offset .. ':' .. epoch .. '__' .. ARGV[1])
return {offset, epoch, '0', '0'}
