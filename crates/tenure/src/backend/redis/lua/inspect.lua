-- inspect: shows locks: who holds, who waits. Changes nothing.
-- Claims whose lease has ended are left out, and so is a lock that nobody holds or waits for.
-- KEYS  the heads of the locks
-- ARGV  1 how many waiting claims to show of each
-- returns  for each lock, in their order: nothing; or {now, head, holders, waiting, waiters, eviction}, where holders and
--          waiting are flat lists of claim, end of its lease, record, and a holder in the head is in holders as well; or
--          {now, why} what is stored cannot be shown: 'V' and its version, 'U' it is too short, or '!' and an error. After a thousand claims the rest is left for another call.
local call, sub, format = redis.call, string.sub, string.format
local stamp
--include now.lua
local now = tonumber(stamp)
local max, total = tonumber(ARGV[1]), 0

-- Up to `most` claims of an ordered set whose leases, kept in another, still run.
local function list(base, order, ends, most)
  local out, from = {}, 0
  while #out < 3 * most do
    local ids = call('ZRANGE', base .. order, from, from + 499)
    if #ids == 0 then
      break
    end
    local finish, records = call('ZMSCORE', base .. ends, unpack(ids)), call('HMGET', base .. 'c', unpack(ids))
    for i, id in ipairs(ids) do
      if finish[i] and tonumber(finish[i]) > now and records[i] and #out < 3 * most then
        out[#out + 1], out[#out + 2], out[#out + 3] = id, format('%016d', finish[i]), records[i]
      end
    end
    from = from + 500
  end
  total = total + #out / 3
  return out
end

local function show(name)
  local head = call('GET', name)
  if not head then
    return false
  end
  if sub(head, HEAD.version) ~= '1' then
    return { stamp, 'V' .. sub(head, HEAD.version) }
  end
  --include long.lua
  local kind, base = sub(head, HEAD.kind), sub(name, 1, -2)
  if kind == '0' or kind >= '6' then
    return false
  end
  if sub(head, HEAD.broken) == '' then
    return { stamp, 'U' }
  end
  local holders = {}
  if sub(head, HEAD.holder.first1) ~= '' then
    if sub(head, HEAD.finish) > stamp then
      holders = { sub(head, HEAD.holder), sub(head, HEAD.finish), sub(head, HEAD.record) }
    end
  elseif kind ~= '1' then
    holders = list(base, 'h', 'e', LIMIT.shown)
  end
  local waiters, waiting = 0, {}
  if sub(head, HEAD.waiting) ~= '0000000' then
    waiters = call('ZCOUNT', base .. 'd', '(' .. stamp, '+inf')
    waiting = list(base, 'w', 'd', max)
  end
  if #holders == 0 and waiters == 0 then
    return false
  end
  local eviction = sub(head, HEAD.broken) == '1' and call('GET', base .. 'b') or ''
  return { stamp, sub(head, HEAD.version.to.broken), holders, waiting, waiters, eviction }
end

local replies = {}
for i, name in ipairs(KEYS) do
  local done, shown = pcall(show, name)
  replies[i] = done and shown or not done and { stamp, '!' .. tostring(type(shown) == 'table' and shown.err or shown) }
  total = total + 1
  if total >= 1000 then
    break
  end
end
return replies
