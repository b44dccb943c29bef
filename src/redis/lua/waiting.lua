-- Which entries are still in a queue of what is to be archived.
--
-- KEYS   1 queue
-- ARGV   ids of entries
-- Gives  those that are there
local there = {}
for _, id in ipairs(ARGV) do
    if redis.call('xrange', KEYS[1], id, id, 'COUNT', 1)[1] then
        there[#there + 1] = id
    end
end
return there
