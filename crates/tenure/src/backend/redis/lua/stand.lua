-- How a claim comes to stand in line: the body of an attempt. Included where a verb says `--include stand.lua`, after the line.
-- Uses  the line, open and settled. Its arguments are those of attempt.

local function stand(id, asked, how)
  local as, terms, who = sub(how, HOW.kind), sub(asked, ASKED.terms), sub(asked, ASKED.who)
  local state, record, finish = find(id)
  if state == 'h' or state == 'w' then
    return renewed(id, state, record, false)
  end
  if state then
    return { id, 'G', stamp }
  end
  local reply, marked = gone(id)
  if reply[2] == 'E' or marked or now - tonumber(sub(how, HOW.birth.on)) > TIME.old then
    return reply
  end
  if absurd and as ~= '3' then
    return far(id)
  end
  local weight = tonumber(sub(terms, ASKED.weight))
  if n + k == 0 then
    begin(as)
  elseif kind ~= as then
    return { id, 'K', stamp, kind }
  end
  local fits = k == 0
  if kind ~= '1' then
    fits = has_room(weight, tonumber(sub(terms, ASKED.capacity)))
  end
  if n == 0 and fits then
    record, finish = granted('1wu' .. terms .. stamp .. stamp .. who), now + tonumber(sub(terms, ASKED.lease))
    changed = true
    if kind == '1' then
      hid, hend, hrec, k = id, finish, record, 1
    else
      joins(record)
      seq, k, used = seq + 1, k + 1, used + weight
      call('ZADD', part('h'), seq, id)
      call('ZADD', part('e'), format('%d', finish), id)
      call('HSET', part('c'), id, record)
      soon = math.min(soon, finish)
      outlive(finish, k == 1)
    end
    return { id, 'H', stamp, sub(record, RECORD.token), format('%016d', finish), sub(record, RECORD.before) }
  end
  if sub(how, HOW.stand) == '0' then
    return { id, 'B', stamp }
  end
  if n >= LIMIT.waiters then
    return { id, 'F', stamp }
  end
  record, finish = '1wu' .. terms .. stamp .. '0000000000000000' .. who, now + tonumber(sub(terms, ASKED.patience))
  local text = format('%d', finish)
  seq, n, changed = seq + 1, n + 1, true
  call('ZADD', part('w'), seq, id)
  call('ZADD', part('d'), text, id)
  call('HSET', part('c'), id, record)
  soon = math.min(soon, finish)
  outlive(finish, n == 1)
  if fits then
    -- Those ahead are away.
    pass_on()
    state, record = find(id)
    if state == 'h' then
      return renewed(id, state, record, false)
    end
  end
  return waits(id, finish, call('ZRANK', part('w'), id) or 0)
end
