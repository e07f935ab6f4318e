-- attempt: stands in line, or looks again.
-- A claim that is in line already keeps its place and its lease is renewed; a new one is granted at once if it fits and
-- nobody waits. A claim that was withdrawn, or is so old that its mark may be gone, is never granted.
-- KEYS  1 the lock's head, tenure:{namespace/name}:l
-- ARGV  1 claim (32 hex digits)  2 kind: 1 mutex, 2 read-write, 3 semaphore
--       3 terms: weight (10 digits), capacity (10), lease of a holder in µs (11), lease of a waiter in µs (11)
--       4 whether to stand in line: 1 or 0  5 birth in µs on the server's clock (16 digits)
--       6 who: client (16 hex digits), then the note
-- returns  {claim, 'H', now, token, end} it holds | {claim, 'W', now, end, ahead, look} it waits | {claim, 'B', now} busy
--          | {claim, 'G', now} gone | {claim, 'E', now, why} evicted | {claim, 'K', now, kind} the line is of this kind
--          | {claim, 'F', now} too many wait | {claim, 'V', now, byte} the head is of another version
local call, sub, format = redis.call, string.sub, string.format
local id, terms, birth = ARGV[1], ARGV[3], tonumber(ARGV[5])
local before = call('GET', KEYS[1])
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local stamp = format('%016d', now)

-- A free mutex: one read, one write.
if ARGV[2] == '1' and (not before or (sub(before, 1, 2) == '10' and sub(before, 19, 34) <= stamp)) then
  if now - birth > 60000000 then
    return { id, 'G', stamp }
  end
  local token, marks = stamp, '0000000000000000'
  if before then
    marks = sub(before, 19, 34)
    if sub(before, 3, 18) >= stamp then
      token = format('%016d', sub(before, 3, 18) + 1)
    end
  end
  local lease = tonumber(sub(terms, 21, 31))
  local finish = format('%016d', now + lease)
  call('SET', KEYS[1], '11' .. token .. marks
    .. '00000000000000009000000000000000000000000000000000000000000001000000000000000000000000000'
    .. id .. finish .. '1h' .. terms .. stamp .. token .. ARGV[6], 'PX', format('%d', lease / 1000 + 600000))
  return { id, 'H', stamp, token, finish }
end

--include line.lua

local function stand()
  local state, record, finish = find(id)
  if state == 'h' or state == 'w' then
    return renewed(id, state, record, finish, false)
  end
  if state then
    return { id, 'G', stamp }
  end
  local reply, marked = gone(id)
  if reply[2] == 'E' or marked or now - birth > 60000000 then
    return reply
  end
  local weight = tonumber(sub(terms, 1, 10))
  if n + k == 0 then
    begin(ARGV[2])
  elseif kind ~= ARGV[2] then
    return { id, 'K', stamp, kind }
  end
  local fits = k == 0
  if kind ~= '1' then
    fits = used + weight <= tonumber(sub(terms, 11, 20))
  end
  if n == 0 and fits then
    record, finish = granted('1w' .. terms .. stamp .. stamp .. ARGV[6]), now + tonumber(sub(terms, 21, 31))
    changed = true
    if kind == '1' then
      hid, hend, hrec, k = id, finish, record, 1
    else
      seq, k, used = seq + 1, k + 1, used + weight
      call('ZADD', part('h'), seq, id)
      call('ZADD', part('e'), format('%d', finish), id)
      call('HSET', part('c'), id, record)
      soon = math.min(soon, finish)
      outlive(finish, k == 1)
    end
    return { id, 'H', stamp, sub(record, 61, 76), format('%016d', finish) }
  end
  if ARGV[4] == '0' then
    return { id, 'B', stamp }
  end
  if n >= 100000 then
    return { id, 'F', stamp }
  end
  record, finish = '1w' .. terms .. stamp .. '0000000000000000' .. ARGV[6], now + tonumber(sub(terms, 32, 42))
  seq, n, changed = seq + 1, n + 1, true
  call('ZADD', part('w'), seq, id)
  call('ZADD', part('d'), format('%d', finish), id)
  call('HSET', part('c'), id, record)
  soon = math.min(soon, finish)
  outlive(finish, n == 1)
  return renewed(id, 'w', record, finish, false)
end

if not open(KEYS[1]) then
  return { id, 'V', stamp, sub(head, 1, 1) }
end
settle()
local reply = stand()
save()
return reply
