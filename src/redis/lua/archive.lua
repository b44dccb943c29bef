-- What scripts of archived channels begin with.
--
-- KEYS   1 stream, 2 meta, 3 queue of what is to be archived, 4 state of the archive
-- ARGV   1 identity of the master, 2 "1" if that is the first identity it ever had, 3 identity of the
--        master that the stream was moved from without a loss, if there is one, 4 beginning of the
--        epoch if a new one is due, 5 what such epochs end with if that is due too, 6 highest id that
--        the archive has of the channel ("0" for none; "" if it was not asked), 7 the offset to go on
--        behind, 8 the epoch to go on with ("" for a new one), 9 what epochs ended with when the
--        archive was asked
-- Gives  "full"; or "unknown", what epochs end with now, the age of the oldest entry of the queue in
--        milliseconds, and "1" if there is an epoch. Then nothing was written.
--
-- An epoch ends with a name for the time in which nothing of this Redis was lost. So one that is only in
-- the archive tells whether its end is known there, or its meta was lost rather than expired.

-- What epochs end with, or "" if something may have been lost since any was begun.
local function generation()
    local state = redis.call('hmget', KEYS[4], 'g', 'f')
    if state[1] and (state[2] == ARGV[1] or state[2] == ARGV[3]) then
        return state[1]
    end
    return ''
end

local function new_epoch()
    local current = generation()
    if current == '' then
        current = ARGV[5]
    end
    redis.call('hset', KEYS[4], 'g', current, 'f', ARGV[1])
    return ARGV[4] .. current
end

local function milliseconds()
    local now = redis.call('time')
    return now[1] * 1000 + math.floor(now[2] / 1000)
end

-- Goes on with a stream whose last id is not known, by what the archive knows of it, or asks for that.
local function take_up(meta)
    local current = generation()
    if ARGV[6] == '' or ARGV[9] ~= current then
        local oldest, age = redis.call('xrange', KEYS[3], '-', '+', 'COUNT', 1)[1], ''
        if oldest then
            local since = tonumber(string.match(oldest[1], '^%d+'))
            age = string.format('%d', math.max(0, milliseconds() - since))
        end
        return {'unknown', current, age, meta[1] and '1' or '0'}
    end
    meta[4] = ARGV[6]
    if not meta[1] then
        -- Entries without a meta have offsets of nobody knows which epoch.
        redis.call('del', KEYS[1])
        meta[1] = ARGV[8] ~= '' and ARGV[8] or new_epoch()
        meta[2], meta[3] = ARGV[1], ARGV[7]
        redis.call('hset', KEYS[2], 'e', meta[1], 'f', meta[2], 's', meta[3])
    end
    meta[5] = meta[3] or '0'
    redis.call('hset', KEYS[2], 'i', meta[4], 'n', meta[5])
end

-- Sees to it that the epoch holds under this master.
local function fence(meta)
    if meta[2] == ARGV[1] then
        return
    end
    if meta[1] and (meta[2] == ARGV[3] or not meta[2] and ARGV[2] == '1') then
        redis.call('hset', KEYS[2], 'f', ARGV[1])
    else
        meta[1] = new_epoch()
        redis.call('hset', KEYS[2], 'e', meta[1], 'f', ARGV[1])
    end
end
