-- The common releases, on the head as it stands: of a lock that nobody else holds or waits for, and of a mutex to the
-- next in line. Included where a verb says `--include give.lua`, as take.lua is.
-- Uses  call, sub, byte, format; stamp: the server's time in µs as 16 digits, or nothing so far; name: the lock's head; id, trace:
--       the arguments of release; reply: nothing
-- Gives  reply: what release returns, as one text with a space between fields; or nothing where it is not that simple; stamp,
--        if it was needed
repeat
  if trace ~= '' and trace ~= 's' and sub(trace, 1, 1) ~= 't' then
    break
  end
  local before = call('GET', name)
  local version, state = byte(before or '', 1, 2)
  if version ~= 49 then
    break
  end
  if not stamp and (state ~= 52 or trace ~= 's') then
    --include now.lua
  end
  if state == 52 then
    if sub(before, 19, 50) ~= id then
      break
    end
    local a, b, c, d = byte(before, 71, 74)
    local short = a == 48 and b == 48 and c == 48
    -- Whether its lease has ended. One of ten seconds or more has not when it began within the same ten.
    if trace ~= 's' and (short and d == 48 or sub(before, 3, 11) ~= sub(stamp, 1, 9))
      and stamp - sub(before, 3, 18) >= tonumber(sub(before, 71, 81)) then
      break
    end
    -- A lease of less than 100 s leaves the expiry that its grant set, of ten minutes after it: a new one costs more.
    if short then
      call('SET', name, '10' .. sub(before, 3, 18), 'KEEPTTL')
    else
      call('SET', name, '10' .. sub(before, 3, 18), 'PX', '600000')
    end
    reply = id .. ' h'
    break
  end
  if sub(before, 124, 155) ~= id or byte(before, 173) ~= 104 or sub(before, 156, 171) <= stamp then
    break
  end
  if sub(trace, 1, 1) == 't' and byte(before, 2) == 49 then
    -- The tokens that were not used go back, if none was given since.
    local spent, own, token = tonumber(sub(trace, 2)), tonumber(sub(before, 184, 193)), tonumber(sub(before, 232, 247))
    if spent and spent >= 1 and spent <= own and tonumber(sub(before, 3, 18)) == token + own - 1 then
      before = '11' .. format('%016d', token + spent - 1) .. sub(before, 19)
    end
  end
  -- How many wait, and how many hold.
  local counts = sub(before, 83, 96)
  if counts ~= '00000000000001' then
    if byte(before, 2) == 49 and sub(counts, 8) == '0000001' and sub(before, 51, 66) > stamp then
      -- To the first in line. Nobody's lease has ended, so the first one's has not. A claim in line without a record is
      -- dropped, and the line put right by its own functions.
      local base = sub(name, 1, -2)
      local heir = call('ZPOPMIN', base .. 'w')[1]
      local record = heir and call('HGET', base .. 'c', heir)
      if not record then
        break
      end
      call('ZREM', base .. 'd', heir)
      call('HDEL', base .. 'c', heir)
      local token, lease, till = stamp, sub(record, 23, 33), sub(before, 67, 82)
      local last, finish = sub(before, 3, 18), format('%016d', stamp + lease)
      if last >= stamp then
        token = format('%016d', last + 1)
      end
      last = token
      if sub(record, 13, 22) ~= '0000000001' then
        last = format('%016d', token + sub(record, 13, 22) - 1)
      end
      if finish > till then
        till = finish
      end
      if sub(before, 19, 34) > till then
        till = sub(before, 19, 34)
      end
      local left = format('%07d', sub(counts, 1, 7) - 1)
      call('SET', name, '11' .. last .. sub(before, 19, 82) .. left .. sub(before, 90, 123) .. heir .. finish .. '1h'
        .. sub(record, 3, 44) .. stamp .. token .. sub(record, 77), 'PXAT', format('%d', till / 1000 + 600000))
      call('PUBLISH', 'tenure:client:' .. sub(record, 77, 92), '1g' .. heir .. token .. stamp .. lease)
      reply = id .. ' h ' .. stamp
    end
    break
  end
  if byte(before, 123) ~= 48 then
    break
  end
  local a, b, c = byte(before, 194, 196)
  if a == 48 and b == 48 and c == 48 then
    call('SET', name, '10' .. sub(before, 3, 34), 'KEEPTTL')
  else
    call('SET', name, '10' .. sub(before, 3, 34), 'PX', '600000')
  end
  reply = id .. ' h ' .. stamp
until true
