-- The common releases, on the head as it stands: of a lock that nobody else holds or waits for, and of a mutex to the
-- next in line. Included where a verb says `--include give.lua`, as take.lua is.
-- What a full server refuses, and other trouble, is left to the line's own functions.
-- Uses  call, try (redis.pcall), sub, byte, format; stamp: the server's time in µs as 16 digits, or nothing so far; name: the lock's head; id, trace:
--       the arguments of release; reply: nothing
-- Gives  reply: what release returns, as one text with a space between fields; or nothing where it is not that simple; stamp,
--        if it was needed
repeat
  if trace ~= '' and trace ~= 's' and sub(trace, TRACE.what) ~= 't' then
    break
  end
  local before = call('GET', name)
  local version, state = byte(before or '', HEAD.version.to.kind)
  if version ~= 49 then
    break
  end
  local short_head = state == 52 or state == 53
  if not stamp and not (short_head and trace == 's') then
    --include now.lua
  end
  if short_head then
    if sub(before, SHORT.holder) ~= id then
      break
    end
    local a, b, c, d = byte(before, SHORT.lease.first4)
    local short = a == 48 and b == 48 and c == 48
    -- Whether its lease has ended. One of ten seconds or more has not when it began within the same ten.
    if trace ~= 's' and (short and d == 48 or sub(before, SHORT.last.first9) ~= sub(stamp, STAMP.tens))
      and stamp - sub(before, SHORT.last) >= tonumber(sub(before, SHORT.lease)) then
      break
    end
    -- A lease of less than 100 s leaves the expiry that its grant set, of ten minutes after it: a new one costs more.
    local done
    if short then
      done = try('SET', name, '10' .. sub(before, SHORT.last), 'KEEPTTL')
    else
      done = try('SET', name, '10' .. sub(before, SHORT.last), 'PX', 'TIME.free_ms')
    end
    if not done.err then
      reply = id .. ' h'
    end
    break
  end
  if sub(before, HEAD.holder) ~= id or byte(before, HEAD.state.at) ~= 104 or sub(before, HEAD.finish) <= stamp then
    break
  end
  if sub(trace, TRACE.what) == 't' and byte(before, HEAD.kind.at) == 49 then
    -- The tokens that were not used go back, if none was given since.
    local spent, own, token = tonumber(sub(trace, TRACE.number)), tonumber(sub(before, HEAD.tokens)), tonumber(sub(before, HEAD.token))
    if spent and spent >= 1 and spent <= own and tonumber(sub(before, HEAD.last)) == token + own - 1 then
      before = '11' .. format('%016d', token + spent - 1) .. sub(before, HEAD.marks.on)
    end
  end
  -- How many wait, and how many hold.
  local counts = sub(before, HEAD.waiting.to.holding)
  if counts ~= '00000000000001' then
    if byte(before, HEAD.kind.at) == 49 and sub(counts, COUNTS.holding.on) == '0000001' and sub(before, HEAD.soon) > stamp
      and sub(before, HEAD.last) - stamp < TIME.ahead then
      -- To the first in line. Nobody's lease has ended, so the first one's has not. A claim in line without a record is
      -- dropped, and the line put right by its own functions.
      local base = sub(name, 1, -2)
      local popped = call('ZPOPMIN', base .. 'w')
      local heir = popped[1]
      local record = heir and call('HGET', base .. 'c', heir)
      if not record or byte(record) ~= 49 then
        break
      end
      local token, lease, till = stamp, sub(record, RECORD.lease), sub(before, HEAD.keep)
      if sub(record, RECORD.patience) < lease then
        lease = sub(record, RECORD.patience)
      end
      local last, finish = sub(before, HEAD.last), format('%016d', stamp + lease)
      if last >= stamp then
        token = format('%016d', last + 1)
      end
      last = token
      if sub(record, RECORD.capacity) ~= '0000000001' then
        last = format('%016d', token + sub(record, RECORD.capacity) - 1)
      end
      if finish > till then
        till = finish
      end
      if sub(before, HEAD.marks) > till then
        till = sub(before, HEAD.marks)
      end
      local text = '1g' .. heir .. token .. stamp .. lease .. 'r' .. name
      if try('PUBLISH', 'tenure:client:' .. sub(record, RECORD.client), text) == 0 then
        -- Its client is away. It keeps its place, and the line's own functions look for another.
        call('ZADD', base .. 'w', popped[2], heir)
        call('PEXPIREAT', base .. 'w', format('%d', sub(before, HEAD.keep) / 1000))
        break
      end
      call('ZREM', base .. 'd', heir)
      call('HDEL', base .. 'c', heir)
      local left = format('%07d', sub(counts, COUNTS.waiting) - 1)
      call('SET', name, '11' .. last .. sub(before, HEAD.marks.to.keep) .. left .. sub(before, HEAD.holding.to.broken)
        .. 'r' .. heir .. finish .. '1hr' .. sub(record, RECORD.weight.to.patience) .. stamp .. token
        .. sub(record, RECORD.client.on), 'PXAT', format('%d', till / 1000 + TIME.free_ms))
      reply = id .. ' h ' .. stamp
    end
    break
  end
  if byte(before, HEAD.broken.at) ~= 48 then
    break
  end
  -- A reader leaves nothing half done: what the last writer left is still so.
  local free, ended = '10', byte(before, HEAD.ended.at)
  if ended ~= 114 and byte(before, HEAD.kind.at) == 50 and sub(before, HEAD.weight) < 'LIMIT.writer' then
    free = ended == 120 and '16' or ended == 101 and '17' or '18'
  end
  local a, b, c = byte(before, HEAD.lease.first3)
  local done
  if a == 48 and b == 48 and c == 48 then
    done = try('SET', name, free .. sub(before, HEAD.last.to.marks), 'KEEPTTL')
  else
    done = try('SET', name, free .. sub(before, HEAD.last.to.marks), 'PX', 'TIME.free_ms')
  end
  if not done.err then
    reply = id .. ' h ' .. stamp
  end
until true
