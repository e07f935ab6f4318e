-- plain_inspect: shows who holds keys. Changes nothing.
-- KEYS  for each lock: the key, our record of its last token
-- returns  for each lock nothing; or {now, value of the key, ms that it lives yet (-1: no end), our record or ''}; or {now, why}
--          what is stored cannot be shown
local call, format = redis.call, string.format
local time = call('TIME')
local stamp = format('%016d', time[1] * 1000000 + time[2])

local function show(key, record)
  local holder = call('GET', key)
  return holder and { stamp, holder, call('PTTL', key), call('GET', record) or '' }
end

local replies = {}
for i = 1, #KEYS, 2 do
  local done, shown = pcall(show, KEYS[i], KEYS[i + 1])
  replies[#replies + 1] = done and shown or not done
    and { stamp, '!' .. tostring(type(shown) == 'table' and shown.err or shown) }
end
return replies
