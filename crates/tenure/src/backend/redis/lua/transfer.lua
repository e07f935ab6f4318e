-- transfer: continues a hold under another claim, which has the weight of the first one or less.
-- Token, place and since-time stay; a writer that becomes a reader gets the readers' token. The first claim is unknown
-- afterwards, and what became free is granted. Never creates a hold.
-- Of several tokens of a mutex it goes on with the last one that was used; the others do not go back.
-- KEYS  1 the lock's head
-- ARGV  1 the claim that holds  2 the claim that goes on  3 kind  4 terms of the second  5 its birth  6 who: client, note
--       7 how many tokens of the first one were used (10 digits); 1 where it is not given
-- returns  what attempt returns to the second claim: 'H', 'W', 'G', 'E', 'K', 'T' or 'V' | {claim, 'L', now} it weighs more
local call, sub, format = redis.call, string.sub, string.format
local from, id, terms = ARGV[1], ARGV[2], ARGV[4]
local stamp
--include now.lua

--include line.lua

local function go_on()
  local state, record, finish = find(id)
  if state == 'h' or state == 'w' then
    return renewed(id, state, record, false)
  end
  if state then
    return { id, 'G', stamp }
  end
  local reply, marked = gone(id)
  if reply[2] == 'E' or marked or now - tonumber(ARGV[5]) > TIME.old then
    return reply
  end
  state, record = find(from)
  if state ~= 'h' then
    reply = state and { id, 'G', stamp } or gone(from)
    reply[1] = id
    return reply
  end
  if kind ~= ARGV[3] then
    return { id, 'K', stamp, kind }
  end
  local held, weight = tonumber(sub(record, RECORD.weight)), tonumber(sub(terms, ASKED.weight))
  if weight > held then
    return { id, 'L', stamp }
  end
  local t = sub(record, RECORD.token)
  if kind == '2' and held == WRITER and weight < WRITER then
    if absurd then
      return far(id)
    end
    t = format('%016d', token(weight))
    ended = 'r'
  elseif kind == '1' then
    local spent = math.min(math.max(tonumber(ARGV[7] or 1), 1), tonumber(sub(record, RECORD.capacity)))
    local goes = tonumber(t) + spent - 1
    last, t = math.max(last, goes + tonumber(sub(terms, ASKED.capacity)) - 1), format('%016d', goes)
  end
  finish = now + tonumber(sub(terms, ASKED.lease))
  local old = record
  record = '1h' .. sub(record, RECORD.before) .. terms .. sub(record, RECORD.since) .. t .. ARGV[6]
  changed = true
  if hid == from then
    hid, hend, hrec = id, finish, record
  else
    -- First the new one: a part that is empty for a moment would lose its expiry.
    call('ZADD', part('h'), call('ZSCORE', part('h'), from), id)
    call('ZADD', part('e'), format('%d', finish), id)
    call('HSET', part('c'), id, record)
    call('ZREM', part('h'), from)
    call('ZREM', part('e'), from)
    call('HDEL', part('c'), from)
    parts(old)
    joins(record)
    used, soon = used - held + weight, math.min(soon, finish)
    outlive(finish, false)
  end
  settle()
  return { id, 'H', stamp, t, format('%016d', finish), sub(record, RECORD.before) }
end

if not open(KEYS[1]) then
  return other(id)
end
whatever_it_takes()
settle()
local reply = go_on()
save()
return reply
