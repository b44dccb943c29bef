-- Takes a consumer out of its group, unless it has entries in hand that would be lost with it.
--
-- KEYS   1 archive stream
-- ARGV   1 consumer group, 2 consumer
-- Gives  1 if it is out
if #redis.call('xpending', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then
    return 0
end
redis.call('xgroup', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 1
