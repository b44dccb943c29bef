-- Writes and publishes, as a publication does. Where writing fails publishing is still tried, so
-- that it is known which of the two does not work.
--
-- KEYS   1 the last canary, if it is to be written
-- ARGV   1 canary, 2 ttl of the key in seconds, then PUB/SUB channels
-- Gives  why it could not be written, or nothing
local refusal = ''
if KEYS[1] then
    refusal = redis.pcall('set', KEYS[1], ARGV[1], 'EX', ARGV[2])['err'] or ''
end
for i = 3, #ARGV do
    redis.call('publish', ARGV[i], ARGV[1])
end
return refusal
