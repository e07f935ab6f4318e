-- plain_renew: renews the leases of claims that hold. Never creates one.
-- At most a hundred in one call: a longer script would hold the server up.
-- KEYS  for each claim: the key, our record of its last token, the claim's mark
-- ARGV  for each claim: claim, lease in ms, note (replaces the stored one if it differs)
-- returns  for each claim what plain_attempt returns: 'H', 'G', 'E' or 'V'
local call, sub, format = redis.call, string.sub, string.format
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local stamp = format('%016d', now)

local function renew(id, lease, note, key, token_key, mark_key)
  local record = call('GET', token_key)
  if record and sub(record, PLAIN.version) ~= '1' then
    return { id, 'V', stamp, sub(record, PLAIN.version) }
  end
  local marked = call('GET', mark_key)
  if marked and sub(marked, MARK.what) == 'e' then
    return { id, 'E', stamp, sub(marked, MARK.why) }
  end
  if marked or not record or sub(record, PLAIN.claim) ~= id or call('GET', key) ~= id then
    return { id, 'G', stamp }
  end
  -- First what a full server lets through: then the rest of the script may write.
  call('PEXPIRE', key, lease)
  call('SET', token_key, sub(record, PLAIN.version.to.since) .. format('%011d', lease) .. note, 'PX', lease + TIME.free_ms)
  return { id, 'H', stamp, sub(record, PLAIN.token), format('%016d', now + lease * 1000) }
end

local replies = {}
for i = 1, #KEYS / 3 do
  local k, a = 3 * i, 3 * i
  replies[i] = renew(ARGV[a - 2], tonumber(ARGV[a - 1]), ARGV[a], KEYS[k - 2], KEYS[k - 1], KEYS[k])
end
return replies
