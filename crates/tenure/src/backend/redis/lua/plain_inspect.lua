-- plain_inspect: shows who holds a key. Changes nothing.
-- KEYS  1 the key  2 our record of its last token
-- returns  nothing, or {now, value of the key, ms that it lives yet (-1: no end), our record or ''}
local call, format = redis.call, string.format
local time = call('TIME')
local holder = call('GET', KEYS[1])
if not holder then
  return false
end
local stamp = format('%016d', time[1] * 1000000 + time[2])
return { stamp, holder, call('PTTL', KEYS[1]), call('GET', KEYS[2]) or '' }
