-- Which provider may take a request, and count it there: what rlmd decides, as a limiter in Redis would.
-- KEYS: providers, the first choice first. ARGV: requests an hour, requests a day, for all of them alike.
local now = tonumber(redis.call('TIME')[1])
local hour, day = math.floor(now / 3600), math.floor(now / 86400)
for _, provider in ipairs(KEYS) do
    local known = redis.call('HMGET', provider, 'until', 'hour', 'in_hour', 'day', 'in_day')
    local in_hour = tonumber(known[2]) == hour and tonumber(known[3]) or 0
    local in_day = tonumber(known[4]) == day and tonumber(known[5]) or 0
    local resting = known[1] and tonumber(known[1]) > now
    if not resting and in_hour < tonumber(ARGV[1]) and in_day < tonumber(ARGV[2]) then
        redis.call('HSET', provider, 'hour', hour, 'in_hour', in_hour + 1, 'day', day, 'in_day', in_day + 1)
        return redis.status_reply(provider)
    end
end
return redis.error_reply('all limited')
