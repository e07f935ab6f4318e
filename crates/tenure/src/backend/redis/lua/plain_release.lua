-- plain_release: deletes the key if it still holds this claim, the compare-and-delete of everybody.
-- KEYS  1 the key  2 our record of its last token  3 this claim's mark
-- ARGV  1 claim  2 what to leave: '' nothing, 'm' a mark, or for how many ms the hold goes on  3 birth (16 digits)
-- returns  {claim, 'h', now} it held | {claim, 'g', now} not known
local call, sub, format = redis.call, string.sub, string.format
local id, trace = ARGV[1], ARGV[2]
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local stamp = format('%016d', now)
local marked = call('GET', KEYS[3])
local held = not marked and call('GET', KEYS[1]) == id
if held and trace ~= '' and trace ~= 'm' and tonumber(trace) > 0 then
  -- First what a full server lets through: then the rest of the script may write.
  call('PEXPIRE', KEYS[1], trace)
  local record = call('GET', KEYS[2])
  if record and sub(record, PLAIN.claim) == id then
    record = sub(record, PLAIN.version.to.since) .. format('%011d', tonumber(trace)) .. sub(record, PLAIN.note.on)
    call('SET', KEYS[2], record, 'PX', tonumber(trace) + TIME.free_ms)
  end
  call('SET', KEYS[3], '1', 'PX', math.max(tonumber(trace), TIME.mark_ms))
else
  if held then
    call('DEL', KEYS[1])
    call('PEXPIRE', KEYS[2], TIME.free_ms)
  end
  call('DEL', sub(KEYS[2], 1, -2) .. 'x')
  if trace == 'm' and not marked and now - tonumber(ARGV[3]) <= TIME.old then
    call('SET', KEYS[3], '1', 'PX', TIME.mark_ms)
  end
end
return { id, held and 'h' or 'g', stamp }
