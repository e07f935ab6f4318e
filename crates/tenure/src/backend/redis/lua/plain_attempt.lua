-- plain_attempt: the dialect of everybody, SET key id NX PX, with a token beside it.
-- A claim that holds already has its lease renewed. One that was withdrawn, or is so old that its mark may be gone, is
-- never granted.
-- KEYS  1 the key that everybody sets  2 our record of the last token, tenure:{key}:t  3 this claim's mark, tenure:{key}:m<claim>
-- ARGV  1 claim (32 hex digits)  2 lease in ms  3 birth in µs on the server's clock (16 digits)  4 note
-- returns  {claim, 'H', now, token, end} it holds | {claim, 'B', now, ms} busy, for so long at most (-1: no end)
--          | {claim, 'G', now} gone | {claim, 'E', now, why} evicted | {claim, 'V', now, byte} the record is of another version
local call, sub, format = redis.call, string.sub, string.format
local id, lease = ARGV[1], tonumber(ARGV[2])
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local stamp = format('%016d', now)
local marked = call('GET', KEYS[3])
if marked then
  if sub(marked, MARK.what) == 'e' then
    return { id, 'E', stamp, sub(marked, MARK.why) }
  end
  return { id, 'G', stamp }
end
local record = call('GET', KEYS[2])
if record and sub(record, PLAIN.version) ~= '1' then
  return { id, 'V', stamp, sub(record, PLAIN.version) }
end
local holder = call('GET', KEYS[1])
if holder == id and record and sub(record, PLAIN.claim) == id then
  local left = math.max(lease, call('PTTL', KEYS[1]))
  call('PEXPIRE', KEYS[1], left)
  call('PEXPIRE', KEYS[2], left + TIME.free_ms)
  return { id, 'H', stamp, sub(record, PLAIN.token), format('%016d', now + left * 1000) }
end
if now - tonumber(ARGV[3]) > TIME.old then
  return { id, 'G', stamp }
end
if holder then
  return { id, 'B', stamp, format('%d', call('PTTL', KEYS[1])) }
end
local token = format('%016d', math.max(record and tonumber(sub(record, PLAIN.token)) + 1 or 0, now))
call('SET', KEYS[1], id, 'PX', lease)
call('SET', KEYS[2], '1' .. token .. id .. stamp .. ARGV[4], 'PX', lease + TIME.free_ms)
return { id, 'H', stamp, token, format('%016d', now + lease * 1000) }
