-- plain_transfer: continues a hold under another claim, by comparing and setting the key.
-- Token and since-time stay. The first claim is unknown afterwards. Never creates a hold.
-- KEYS  1 the key  2 our record of its last token  3 the mark of the claim that holds  4 the mark of the one that goes on
-- ARGV  1 the claim that holds  2 the claim that goes on  3 lease in ms  4 birth of the second (16 digits)  5 note
-- returns  what plain_attempt returns to the second claim: 'H', 'G', 'E' or 'V'
local call, sub, format = redis.call, string.sub, string.format
local from, id, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local stamp = format('%016d', now)

local function gone(mark)
  if mark and sub(mark, MARK.what) == 'e' then
    return { id, 'E', stamp, sub(mark, MARK.why) }
  end
  return { id, 'G', stamp }
end

local record = call('GET', KEYS[2])
if record and sub(record, PLAIN.version) ~= '1' then
  return { id, 'V', stamp, sub(record, PLAIN.version) }
end
local marked = call('GET', KEYS[4])
if marked then
  return gone(marked)
end
local holder, claim = call('GET', KEYS[1]), record and sub(record, PLAIN.claim)
if holder == id and claim == id then
  call('PEXPIRE', KEYS[1], lease)
  call('PEXPIRE', KEYS[2], lease + TIME.free_ms)
  return { id, 'H', stamp, sub(record, PLAIN.token), format('%016d', now + lease * 1000) }
end
marked = call('GET', KEYS[3])
if marked or holder ~= from or claim ~= from or now - tonumber(ARGV[4]) > TIME.old then
  return gone(marked)
end
-- First what a full server lets through: then the rest of the script may write.
call('PEXPIRE', KEYS[1], lease)
call('SET', KEYS[1], id, 'PX', lease)
call('SET', KEYS[2], sub(record, PLAIN.version.to.token) .. id .. sub(record, PLAIN.since) .. format('%011d', lease) .. ARGV[5],
  'PX', lease + TIME.free_ms)
return { id, 'H', stamp, sub(record, PLAIN.token), format('%016d', now + lease * 1000) }
