-- release: ends a hold, or withdraws a waiting claim.
-- What became free is granted to the next in line, who is told. A second release finds nothing.
-- KEYS  1 the lock's head
-- ARGV  1 claim  2 what to leave: '' nothing, 'm' a mark, or for how many µs the hold goes on (16 digits)  3 birth (16 digits)
-- returns  {claim, 'h', now} it held | {claim, 'w', now} it waited | {claim, 'g', now} not known
--          | {claim, 'V', now, byte} the head is of another version
local call, sub, format = redis.call, string.sub, string.format
local id, trace = ARGV[1], ARGV[2]
local before = call('GET', KEYS[1])
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local stamp = format('%016d', now)

-- A mutex that nobody waits for: one read, one write.
if trace == '' and before and sub(before, 1, 2) == '11' and sub(before, 83, 96) == '00000000000001'
  and sub(before, 123, 155) == '0' .. id and sub(before, 173, 173) == 'h' and sub(before, 156, 171) > stamp then
  call('SET', KEYS[1], '10' .. sub(before, 3, 34), 'PX', 600000)
  return { id, 'h', stamp }
end

--include line.lua

if not open(KEYS[1]) then
  return { id, 'V', stamp, sub(head, 1, 1) }
end
settle()
local state, record, finish = find(id)
local found = 'g'
if state == 'h' or state == 'w' then
  found = state
  if state == 'h' and trace ~= '' and trace ~= 'm' then
    put(id, state, '1k' .. sub(record, 3), now + tonumber(trace), true)
  else
    if hid == id then
      hid, k, changed = nil, 0, true
    elseif state == 'h' then
      leave({ id })
    else
      withdraw({ id })
    end
    if trace == 'm' then
      mark(id, '1')
    end
  end
  settle()
elseif trace == 'm' then
  if state then
    put(id, state, '1m' .. sub(record, 3), finish, true)
  elseif not (marks > now and call('GET', part('m') .. id)) and now - tonumber(ARGV[3]) <= 60000000 then
    mark(id, '1')
  end
end
save()
return { id, found, stamp }
