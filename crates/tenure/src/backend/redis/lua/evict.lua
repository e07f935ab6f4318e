-- evict: takes the lock away from whoever holds it with a token, or from all holders.
-- Those evicted are told, their claims leave a mark with the reason, and the next in line is granted with a greater token.
-- KEYS  1 the lock's head
-- ARGV  1 token (16 digits), or '' for all  2 by whom and why. Of several tokens of one claim, any
-- returns  {'E', now, how many} | {'V', now, byte} the head is of another version
local call, sub, format = redis.call, string.sub, string.format
local stamp
--include now.lua

--include line.lua

if not open(KEYS[1]) then
  return { 'V', stamp, sub(head, HEAD.version) }
end
whatever_it_takes()
settle()
local whom, records, taken = {}, {}, nil
local function take(id, record)
  local t, own = sub(record, RECORD.token), kind == '1' and sub(record, RECORD.capacity) or 1
  if ARGV[1] == '' or tonumber(t) and tonumber(own) and ARGV[1] >= t and tonumber(ARGV[1]) < t + own then
    taken = taken or (ARGV[1] == '' and t or ARGV[1])
    whom[#whom + 1], records[#records + 1] = id, record
  end
end
if hid then
  take(hid, hrec)
  if #whom > 0 then
    vacate('e')
  end
elseif kind ~= '1' and k > 0 then
  for _, id in ipairs(call('ZRANGE', part('h'), 0, -1)) do
    local record = call('HGET', part('c'), id)
    if record then
      take(id, record)
    end
  end
  for from = 1, #whom, SWEEP do
    local some = {}
    for i = from, math.min(from + SWEEP - 1, #whom) do
      some[#some + 1] = whom[i]
    end
    leave(some, 'e')
  end
end
for i, id in ipairs(whom) do
  mark(id, '1e' .. ARGV[2])
  tell(records[i], '1x' .. id .. ARGV[2])
end
if #whom > 0 then
  if n + k > 0 then
    call('SET', part('b'), '1' .. stamp .. taken .. ARGV[2], 'PX', TIME.broken_ms)
    broken, changed = '1', true
  end
  settle()
end
save()
return { 'E', stamp, format('%d', #whom) }
