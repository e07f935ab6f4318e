-- renew: renews the leases of claims that hold or wait, and says where each stands.
-- Never creates a claim. At most a hundred in one call: a longer script would hold the server up.
-- KEYS  the head of each claim's lock; the same one may come twice
-- ARGV  for each key: claim, note (who and why; replaces the stored one if it differs)
-- returns  for each key what attempt returns: 'H', 'W', 'G', 'E' or 'V'
local call, sub, format = redis.call, string.sub, string.format
local stamp
--include now.lua
local now = tonumber(stamp)
local replies, rest = {}, {}

-- Holders who are alone: one read, one write each.
for i, name in ipairs(KEYS) do
  local id, head = ARGV[2 * i - 1], call('GET', name)
  --include long.lua
  if head and sub(head, 1, 1) == '1' and sub(head, 124, 155) == id and sub(head, 173, 173) == 'h'
    and sub(head, 156, 171) > stamp and sub(head, 264) == ARGV[2 * i] then
    local finish = now + tonumber(sub(head, 194, 204))
    local till = math.max(finish, tonumber(sub(head, 67, 82)), tonumber(sub(head, 19, 34)))
    local shown = format('%016d', finish)
    if shown > sub(head, 156, 171) then
      call('SET', name, sub(head, 1, 155) .. shown .. sub(head, 172), 'PXAT', format('%d', till / 1000 + 600000))
    else
      shown = sub(head, 156, 171)
    end
    replies[i] = { id, 'H', stamp, sub(head, 232, 247), shown }
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
