-- renew: renews the leases of claims that hold or wait, and says where each stands.
-- Never creates a claim. At most a hundred in one call: a longer script would hold the server up.
-- KEYS  the head of each claim's lock; the same one may come twice
-- ARGV  for each key: claim, note (who and why; replaces the stored one if it differs)
-- returns  for each key what attempt returns: 'H', 'W', 'G', 'E' or 'V'
local call, sub, format = redis.call, string.sub, string.format
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local stamp = format('%016d', now)
local replies, rest = {}, {}

-- Holders who are alone: one read, one write each.
for i, name in ipairs(KEYS) do
  local id, text = ARGV[2 * i - 1], call('GET', name)
  local ends = 0
  if text and sub(text, 1, 1) == '1' and sub(text, 124, 155) == id and sub(text, 173, 173) == 'h' then
    ends = tonumber(sub(text, 156, 171))
    if ends == 0 then
      ends = sub(text, 216, 231) + sub(text, 194, 204)
    end
  end
  if ends > now and sub(text, 264) == ARGV[2 * i] then
    local finish = now + tonumber(sub(text, 194, 204))
    local till = math.max(finish, tonumber(sub(text, 67, 82)), tonumber(sub(text, 19, 34)))
    if finish > ends then
      ends = finish
      call('SET', name, sub(text, 1, 155) .. format('%016d', finish) .. sub(text, 172), 'PXAT',
        format('%d', till / 1000 + 600000))
    end
    replies[i] = { id, 'H', stamp, sub(text, 232, 247), format('%016d', ends) }
  else
    rest[#rest + 1] = i
  end
end
if #rest == 0 then
  return replies
end

--include line.lua

for _, i in ipairs(rest) do
  local id, note = ARGV[2 * i - 1], ARGV[2 * i]
  if open(KEYS[i]) then
    settle()
    local state, record, finish = find(id)
    if state == 'h' or state == 'w' then
      local fresh = sub(record, 93) ~= note
      if fresh then
        record = sub(record, 1, 92) .. note
      end
      replies[i] = renewed(id, state, record, finish, fresh)
    else
      replies[i] = gone(id)
    end
    save()
  else
    replies[i] = { id, 'V', stamp, sub(head, 1, 1) }
  end
end
return replies
