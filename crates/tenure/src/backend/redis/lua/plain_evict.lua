-- plain_evict: deletes the key, whoever holds it, or only if the holder is a claim of ours with this token.
-- An evicted claim of ours leaves a mark with the reason.
-- KEYS  1 the key  2 our record of its last token
-- ARGV  1 token (16 digits), or '' for any holder  2 by whom and why
-- returns  {'E', now, how many} | {'V', now, byte} the record is of another version
local call, sub, format = redis.call, string.sub, string.format
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local stamp = format('%016d', now)
local record = call('GET', KEYS[2])
if record and sub(record, PLAIN.version) ~= '1' then
  return { 'V', stamp, sub(record, PLAIN.version) }
end
local holder = call('GET', KEYS[1])
local ours = holder and record and sub(record, PLAIN.claim) == holder
if not holder or (ARGV[1] ~= '' and not (ours and sub(record, PLAIN.token) == ARGV[1])) then
  return { 'E', stamp, '0' }
end
call('DEL', KEYS[1])
if ours then
  call('SET', sub(KEYS[2], 1, -2) .. 'm' .. holder, '1e' .. ARGV[2], 'PX', TIME.mark_ms)
end
return { 'E', stamp, '1' }
