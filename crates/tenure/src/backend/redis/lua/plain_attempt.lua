-- plain_attempt: the dialect of everybody, SET key id NX PX, with a token beside it.
-- A claim that holds already has its lease renewed. One that was withdrawn, or is so old that its mark may be gone, is
-- never granted.
-- KEYS  1 the key that everybody sets  2 our record of the last token, tenure:{key}:t  3 this claim's mark, tenure:{key}:m<claim>
-- ARGV  1 claim (32 hex digits)  2 lease in ms  3 birth in µs on the server's clock (16 digits)  4 note
-- returns  {claim, 'H', now, token, end} it holds | {claim, 'B', now, ms} busy, for so long at most (-1: no end)
--          | {claim, 'T', now, token} no token can follow this one, which lies too far ahead
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
  call('PEXPIRE', KEYS[1], lease)
  call('PEXPIRE', KEYS[2], lease + TIME.free_ms)
  return { id, 'H', stamp, sub(record, PLAIN.token), format('%016d', now + lease * 1000) }
end
if now - tonumber(ARGV[3]) > TIME.old then
  return { id, 'G', stamp }
end
if holder then
  local left = call('PTTL', KEYS[1])
  if record and sub(record, PLAIN.claim) == holder and left > tonumber(sub(record, PLAIN.lease)) then
    -- No lease of ours ends later than if it had begun now; one does where the server's clock was set back.
    left = tonumber(sub(record, PLAIN.lease))
    call('PEXPIRE', KEYS[1], left)
  end
  return { id, 'B', stamp, format('%d', left) }
end
local last = record and tonumber(sub(record, PLAIN.token)) or 0
if last > now + TIME.ahead then
  return { id, 'T', stamp, sub(record, PLAIN.token) }
end
local token = format('%016d', math.max(last + 1, now))
call('SET', KEYS[1], id, 'PX', lease)
call('SET', KEYS[2], '1' .. token .. id .. stamp .. format('%011d', lease) .. ARGV[4], 'PX', lease + TIME.free_ms)
return { id, 'H', stamp, token, format('%016d', now + lease * 1000) }
