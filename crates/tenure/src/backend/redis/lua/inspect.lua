-- inspect: shows one lock: who holds, who waits. Changes nothing.
-- Claims whose lease has ended are left out, and so is a lock that nobody holds or waits for.
-- KEYS  1 the lock's head
-- ARGV  1 how many waiting claims to show
-- returns  nothing, or {now, head, holders, waiting, waiters, eviction}: holders and waiting are flat lists of claim, end of
--          its lease, record; a holder in the head is in holders as well
local call, sub, format = redis.call, string.sub, string.format
local stamp
--include now.lua
local now = tonumber(stamp)
local head = call('GET', KEYS[1])
if not head then
  return false
end
if sub(head, HEAD.version) ~= '1' then
  return { stamp, sub(head, HEAD.version), {}, {}, 0, '' }
end
--include long.lua
local kind, base = sub(head, HEAD.kind), sub(KEYS[1], 1, -2)
if kind == '0' then
  return false
end
local max = tonumber(ARGV[1])

-- Up to `most` claims of an ordered set whose leases, kept in another, still run.
local function list(order, ends, most)
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
  return out
end

local holders = {}
if sub(head, HEAD.holder.first1) ~= '' then
  if sub(head, HEAD.finish) > stamp then
    holders = { sub(head, HEAD.holder), sub(head, HEAD.finish), sub(head, HEAD.record) }
  end
elseif kind ~= '1' then
  holders = list('h', 'e', LIMIT.shown)
end
local waiters = call('ZCOUNT', base .. 'd', '(' .. stamp, '+inf')
if #holders == 0 and waiters == 0 then
  return false
end
local eviction = sub(head, HEAD.broken) == '1' and call('GET', base .. 'b') or ''
return { stamp, sub(head, HEAD.version.to.broken), holders, list('w', 'd', max), waiters, eviction }
