-- renew: renews the leases of claims that hold or wait, and says where each stands.
-- Never creates a claim. At most a hundred in one call: a longer script would hold the server up.
-- KEYS  the head of each claim's lock; the same one may come twice
-- ARGV  for each key: claim, note (who and why; replaces the stored one if it differs)
-- returns  for each key what attempt returns: 'H', 'W', 'G', 'E', 'T' or 'V'
local call, sub, format = redis.call, string.sub, string.format
local stamp
--include now.lua
local now = tonumber(stamp)
local replies, rest = {}, {}

-- A full server lets this through, and after it what renews; there is no such key.
call('DEL', sub(KEYS[1], 1, -2) .. 'x')
-- Holders who are alone: one read, one write each.
for i, name in ipairs(KEYS) do
  local id, head = ARGV[2 * i - 1], call('GET', name)
  local stored = head
  --include long.lua
  if head and sub(head, HEAD.version) == '1' and sub(head, HEAD.holder) == id and sub(head, HEAD.state) == 'h'
    and sub(head, HEAD.finish) > stamp and sub(head, HEAD.note) == ARGV[2 * i] then
    local finish = now + tonumber(sub(head, HEAD.lease))
    local till = math.max(finish, tonumber(sub(head, HEAD.keep)), tonumber(sub(head, HEAD.marks)))
    local shown = format('%016d', finish)
    local text = sub(head, HEAD.version.to.holder) .. shown .. sub(head, HEAD.record)
    -- Not compared by its end: that of a short head moves with a clock that was set back, until it is written.
    if text ~= stored then
      call('SET', name, text, 'PXAT', format('%d', till / 1000 + TIME.free_ms))
    end
    replies[i] = { id, 'H', stamp, sub(head, HEAD.token), shown, sub(head, HEAD.before) }
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
    asker = id
    settle()
    local state, record = find(id)
    if state == 'h' or state == 'w' then
      local fresh = sub(record, RECORD.note) ~= note
      if fresh then
        record = sub(record, RECORD.version.to.client) .. note
      end
      replies[i] = renewed(id, state, record, fresh)
    else
      replies[i] = gone(id)
    end
    save()
  else
    replies[i] = other(id)
  end
end
return replies
