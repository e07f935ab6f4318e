-- The common attempts, on the head as it stands: the lock is free, or it is a mutex and others wait for it. Included where a
-- verb says `--include take.lua`, before the line, whose functions cost more to define than this to run; and not a function
-- itself, for the same reason. Each piece of text that is cut out costs, so bytes are compared where that will do (48 is '0', 49 '1').
-- Uses  call, try (redis.pcall), sub, byte, format; stamp: the server's time in µs as 16 digits; tens: the same but for the last 7 digits; name: the
--       lock's head; id, asked, how: the arguments of attempt; reply, usual, ends: nothing
-- Gives  reply: what attempt returns, as one text with a space between fields; or nothing where it is not that simple
repeat
  local before, last, marks = call('GET', name), '0000000000000000', '0000000000000000'
  -- Mostly it was made within the same ten seconds, which costs less to see than a difference.
  if sub(how, HOW.birth.first9) ~= tens and stamp - sub(how, HOW.birth.on) > TIME.old then
    break
  end
  local as, patient = byte(how, HOW.kind.to.stand)
  -- How the hold before ended, where that is 'r' or 'u'; the others are left to the line.
  local ended = 'u'
  if before then
    local version, state = byte(before, HEAD.version.to.kind)
    if version ~= 49 or state ~= 48 and state ~= 56 and (state ~= 49 or as ~= 49 or patient ~= 49) then
      break
    end
    if #before > 18 and sub(before, HEAD.marks) > stamp then
      marks = sub(before, HEAD.marks)
      if call('GET', sub(name, 1, -2) .. 'm' .. id) then
        break
      end
    end
    if state == 49 then
      -- Behind others. Those ahead live, so that nothing is due; and the parts of the line live long enough.
      local waiting, finish = sub(before, HEAD.waiting), format('%016d', stamp + sub(asked, ASKED.patience))
      local soon, record = sub(before, HEAD.soon), '1wu' .. sub(asked, ASKED.terms) .. stamp
        .. '0000000000000000' .. sub(asked, ASKED.who)
      if waiting < '0000002' or waiting >= 'LIMIT.waiters.digits7' or sub(before, HEAD.holding) ~= '0000001'
        or sub(before, HEAD.finish) <= stamp or sub(before, HEAD.finish) - sub(before, HEAD.lease) - stamp > 0 or soon <= stamp or finish > sub(before, HEAD.keep)
        or sub(before, HEAD.holder) == id or try('HSETNX', sub(name, 1, -2) .. 'c', id, record) ~= 1 then
        break
      end
      local base, place = sub(name, 1, -2), format('%016d', sub(before, HEAD.place) + 1)
      call('ZADD', base .. 'w', place, id)
      call('ZADD', base .. 'd', finish, id)
      if finish < soon then
        soon = finish
      end
      call('SET', name, sub(before, HEAD.version.to.marks) .. place .. soon .. sub(before, HEAD.keep) .. format('%07d', waiting + 1)
        .. sub(before, HEAD.holding.on), 'KEEPTTL')
      local look = format('%016d', stamp + TIME.look)
      reply = id .. ' W ' .. stamp .. ' ' .. finish .. ' ' .. format('%d', waiting) .. ' ' .. look
      break
    end
    last = sub(before, HEAD.last)
    if state == 48 then
      ended = 'r'
    end
  end
  -- A lease of less than 100 s has one expiry for all: ten minutes after the longest.
  local a, b, c = byte(asked, ASKED.lease.first3)
  local expiry = 'TIME.brief_ms'
  if a ~= 48 or b ~= 48 or c ~= 48 then
    expiry = format('%d', sub(asked, ASKED.lease) / 1000 + TIME.free_ms)
  end
  if as == 49 and last < stamp and marks == '0000000000000000' and sub(asked, ASKED.capacity) == '0000000001' then
    -- The commonest of all: in few bytes, since the server's Lua hashes each byte of each text that it makes.
    if ended == 'r' then
      call('SET', name, '14' .. stamp .. id .. asked, 'PX', expiry)
      reply = id .. ' H ' .. stamp .. ' r'
    else
      call('SET', name, '15' .. stamp .. id .. asked, 'PX', expiry)
      reply = id .. ' H ' .. stamp .. ' u'
    end
    break
  end
  if last >= stamp and not (tonumber(last) and last - stamp <= TIME.ahead) then
    break
  end
  -- The only claim of a lock, of whatever kind, lies in the head.
  local token, shared, used = '0000000000000000', '0000000000000000', '0000000000'
  if as ~= 51 then
    token = stamp
    if last >= stamp then
      token = format('%016d', last + 1)
    end
    last = token
  end
  if as ~= 49 then
    used = sub(asked, ASKED.weight)
    if used > sub(asked, ASKED.capacity) then
      break
    end
    if as == 50 and used < 'LIMIT.writer' then
      shared = token
    end
  elseif sub(asked, ASKED.capacity) ~= '0000000001' then
    last = format('%016d', token + sub(asked, ASKED.capacity) - 1)
  end
  local lease = sub(asked, ASKED.lease)
  if lease ~= usual then
    -- Verbs of one call mostly ask for the same lease.
    usual, ends = lease, format('%016d', stamp + lease)
  end
  call('SET', name, '1' .. sub(how, HOW.kind) .. last .. marks .. '00000000000000009000000000000000000000000000000000000000000001'
    .. shared .. used .. '0' .. ended .. id .. ends .. '1h' .. ended .. sub(asked, ASKED.terms) .. stamp .. token .. sub(asked, ASKED.who),
    'PX', expiry)
  reply = id .. ' H ' .. stamp .. ' ' .. token .. ' ' .. ends .. ' ' .. ended
until true
