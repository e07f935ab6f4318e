-- The line of one lock: what the verbs share. Included where a verb says `--include line.lua`.
-- The head (`l`) holds the counters and the holder of a mutex, or of any lock whose only claim it is; the other parts exist only while somebody needs them:
-- `w` waiters by place, `d` when their leases end, `h` and `e` the same of holders that share, `c` records of claims,
-- `b` the last eviction, `m<id>` a mark. docs/wire/redis.md describes every byte.
-- Uses  stamp: the server's time in µs, as 16 digits.

local MARK, EMPTY, SLACK, AHEAD = TIME.mark, TIME.free_ms, TIME.slack, TIME.ahead
local NEVER = TIME.never
local WRITER = LIMIT.writer
local SWEEP, GRANTS = LIMIT.sweep, LIMIT.grants

local now = tonumber(stamp)
local base, head, changed, absurd, refused, reined, asker
local kind, last, marks, seq, soon, keep, n, k, shared, used, broken
-- Of the holders that share a semaphore: the least number of permits that one names, and how many name it. Nothing: not known.
local least, same
-- How the last hold ended that counts: 'r' released, 'x' expired, 'e' evicted, 'u' unknown.
local ended
local hid, hend, hrec

local function part(letter)
  return base .. letter
end

-- A write that a full server lets through, and after it whatever else the script writes. It changes nothing: there is no
-- such part. What holds or waits already is renewed, released and withdrawn like this; what is new is not.
local function whatever_it_takes()
  call('DEL', part('x'))
end

-- Reads the head of a lock. False: it was written by another version.
local function open(name)
  base, head, changed = sub(name, 1, -2), call('GET', name), false
  kind, last, marks, seq, soon, keep, n, k = '0', 0, 0, 0, NEVER, 0, 0, 0
  shared, used, broken, ended, hid, absurd, refused, least = 0, 0, '0', 'u', nil, false, false, nil
  if not head then
    return true
  end
  if sub(head, HEAD.version) ~= '1' then
    return false
  end
  --include long.lua
  kind, last, marks = sub(head, HEAD.kind), tonumber(sub(head, HEAD.last)), tonumber(sub(head, HEAD.marks)) or 0
  -- Tokens follow the clock: none is given after one that lies in a far future, by a mistake or by malice. Numbers of
  -- this Lua are exact up to 2^53.
  absurd, last = not last or last > now + AHEAD, math.min(last or LIMIT.exact, LIMIT.exact)
  if absurd and (kind == '0' or kind >= '6') then
    -- Such a head stays as it is until it is repaired, so it cannot say until when there are marks: each claim is looked up.
    refused, marks = true, now + MARK
  end
  if kind == '0' then
    ended = 'r'
  elseif kind >= '6' then
    ended = kind == '6' and 'x' or kind == '7' and 'e' or 'u'
    kind = '0'
  else
    seq, soon, keep = tonumber(sub(head, HEAD.place)), tonumber(sub(head, HEAD.soon)), tonumber(sub(head, HEAD.keep))
    n, k = tonumber(sub(head, HEAD.waiting)), tonumber(sub(head, HEAD.holding))
    shared, used, broken = tonumber(sub(head, HEAD.shared)), tonumber(sub(head, HEAD.used)), sub(head, HEAD.broken)
    ended = sub(head, HEAD.ended)
    if kind == '3' and (shared or 0) > 0 then
      least, same, shared = tonumber(sub(head, HEAD.least)), tonumber(sub(head, HEAD.same)), 0
    end
    if k > 0 and sub(head, HEAD.holder.first1) ~= '' then
      hid, hend, hrec = sub(head, HEAD.holder), tonumber(sub(head, HEAD.finish)), sub(head, HEAD.record)
    end
  end
  return true
end

-- Writes the head, if something changed. It outlives the line by ten minutes, for its last token.
local function save()
  if not changed or refused and n + k == 0 then
    return
  end
  changed = false
  -- Byte by byte where no token can follow it: it may be none that this Lua can count to.
  local latest = absurd and sub(head, HEAD.last) or format('%016d', last)
  if n + k == 0 then
    if broken == '1' then
      call('DEL', part('b'))
    end
    local free = ended == 'r' and '10' or ended == 'x' and '16' or ended == 'e' and '17' or '18'
    call('SET', part('l'), free .. latest .. (marks > 0 and format('%016d', marks) or ''), 'PX', EMPTY)
    return
  end
  local till, tail = math.max(keep, marks), ''
  if hid then
    till, tail = math.max(till, hend), hid .. format('%016d', hend) .. hrec
  end
  local counted = shared
  if kind == '3' and least and k > 0 and not hid then
    counted = least * 1000000 + math.min(same, LIMIT.same)
  end
  local text = format('1%s%s%016d%016d%016d%016d%07d%07d%016d%010d%s%s', kind, latest, marks, seq, soon, keep, n, k,
    counted, used, broken, ended)
  call('SET', part('l'), text .. tail, 'PXAT', format('%d', till / 1000 + EMPTY))
end

-- Sees to it that the parts of the line outlive a lease. `made`: one of them is new, and has no expiry yet.
local function outlive(finish, made)
  if finish <= keep and not made then
    return
  end
  keep, changed = math.max(keep, finish + SLACK), true
  local at = format('%d', keep / 1000)
  for letter in string.gmatch(kind == '1' and 'wdc' or 'wdche', '.') do
    call('PEXPIREAT', part(letter), at)
  end
end

-- One more claim holds: which number of permits counts, if that is known. Before it is counted in what is used.
local function joins(record)
  if kind ~= '3' then
    return
  end
  local names = tonumber(sub(record, RECORD.capacity))
  if used == 0 or least and names < least then
    least, same = names, 1
  elseif names == least then
    same = same + 1
  end
end

-- One less. When nobody is left who names the least number, the next one is looked for as soon as somebody needs it.
local function parts(record)
  if least and tonumber(sub(record, RECORD.capacity)) == least then
    same = same - 1
    if same < 1 then
      least = nil
    end
  end
end

-- A holder that was alone in the head goes where those are who share the lock.
local function spill()
  local id, finish = hid, hend
  call('ZADD', part('h'), seq + 1, id)
  call('ZADD', part('e'), format('%d', finish), id)
  call('HSET', part('c'), id, hrec)
  if kind == '3' then
    least, same = tonumber(sub(hrec, RECORD.capacity)), 1
  end
  hid, seq, soon, changed = nil, seq + 1, math.min(soon, finish), true
  outlive(finish, true)
end

-- Whether one more claim fits: into its own number of permits, and into the least that a holder names.
local function has_room(weight, capacity)
  if used + weight > capacity then
    return false
  end
  if kind == '3' and k > 0 and not least then
    local from = 0
    repeat
      local ids = call('ZRANGE', part('h'), from, from + SWEEP - 1)
      for _, record in ipairs(#ids > 0 and call('HMGET', part('c'), unpack(ids)) or {}) do
        local names = record and tonumber(sub(record, RECORD.capacity))
        if names and (not least or names < least) then
          least, same = names, 1
        elseif names and names == least then
          same = same + 1
        end
      end
      from = from + SWEEP
    until #ids < SWEEP
    changed = true
  end
  return used + weight <= (least or capacity)
end

-- Begins a line where nobody stands.
local function begin(as)
  if broken == '1' then
    call('DEL', part('b'))
  end
  kind, seq, soon, keep, shared, used, broken = as, 0, NEVER, 0, 0, 0, '0'
end

-- Remembers that a claim was withdrawn ('1') or evicted ('1e' and why).
local function mark(id, text)
  call('SET', part('m') .. id, text, 'PX', MARK / 1000)
  marks, changed = math.max(marks, now + MARK), true
end

-- Says how many clients heard it: one, or none where it is away. Where that may not be said, an error, which fails no verb.
local function tell(record, text)
  return redis.pcall('PUBLISH', 'tenure:client:' .. sub(record, RECORD.client), text)
end

-- The token of a new grant of this weight; 0 where the kind has none.
local function token(weight)
  if kind == '3' then
    return 0
  end
  local reads = kind == '2' and weight < WRITER
  if reads and shared > 0 then
    return shared
  end
  last = math.max(last + 1, now)
  shared = reads and last or 0
  return last
end

-- The record of a claim that is granted now. One of a mutex may ask for several tokens, from that of its grant on.
local function granted(record)
  local t = token(tonumber(sub(record, RECORD.weight)))
  if kind == '1' and sub(record, RECORD.capacity) ~= '0000000001' then
    last = last + tonumber(sub(record, RECORD.capacity)) - 1
  end
  return '1h' .. ended .. sub(record, RECORD.weight.to.patience) .. stamp .. format('%016d', t) .. sub(record, RECORD.client.on)
end

-- Until when a grant is good that its client has not confirmed, as an answer or a renewal does: no longer than it would
-- have waited, since it may be gone.
local function unconfirmed(record)
  return now + math.min(tonumber(sub(record, RECORD.lease)), tonumber(sub(record, RECORD.patience)))
end

-- Tells of a grant. False: its client is away, and it is not granted, unless it is the one who asks now.
local function announce(id, record)
  local lease = format('%011d', unconfirmed(record) - now)
  return tell(record, '1g' .. id .. sub(record, RECORD.token) .. stamp .. lease .. sub(record, RECORD.before) .. part('l')) ~= 0 or id == asker
end

-- When the first lease of a set ends.
local function first(set)
  local found = call('ZRANGE', set, 0, 0, 'WITHSCORES')
  return found[2] and tonumber(found[2]) or NEVER
end

-- Notes how a hold ends. A reader leaves nothing half done.
local function note_end(record, how)
  if kind ~= '2' or tonumber(sub(record, RECORD.weight)) == WRITER then
    ended, changed = how, true
  end
end

-- The holder in the head goes.
local function vacate(how)
  note_end(hrec, how)
  hid, k, changed = nil, 0, true
end

-- How a hold ends whose lease does: what was released for later was released.
local function over(record)
  return sub(record, RECORD.state) == 'h' and 'x' or 'r'
end

-- Takes claims that share a lock out of it, released or evicted; or else their leases have ended.
local function leave(ids, how)
  local records, died = call('HMGET', part('c'), unpack(ids)), false
  for i, id in ipairs(ids) do
    if records[i] then
      died = died or over(records[i]) == 'x'
      note_end(records[i], how or died and 'x' or 'r')
      used = used - (tonumber(sub(records[i], RECORD.weight)) or 0)
      parts(records[i])
      if sub(records[i], RECORD.state) == 'm' then
        mark(id, '1')
      end
    else
      least = nil
    end
  end
  call('ZREM', part('h'), unpack(ids))
  call('ZREM', part('e'), unpack(ids))
  call('HDEL', part('c'), unpack(ids))
  k, changed = k - #ids, true
  if k == 0 then
    used, least = 0, nil
  end
end

local function withdraw(ids)
  call('ZREM', part('w'), unpack(ids))
  call('ZREM', part('d'), unpack(ids))
  call('HDEL', part('c'), unpack(ids))
  n, changed = n - #ids, true
end

-- Removes claims whose lease has ended; a long list in several visits.
local function sweep()
  if kind ~= '1' and k > 0 then
    local dead = call('ZRANGEBYSCORE', part('e'), '-inf', stamp, 'LIMIT', 0, SWEEP)
    if #dead > 0 then
      leave(dead)
    end
    local counted = k
    k = call('ZCARD', part('h'))
    if k ~= counted then
      least = nil
    end
    if k == 0 then
      used = 0
    end
  end
  if n > 0 then
    local dead = call('ZRANGEBYSCORE', part('d'), '-inf', stamp, 'LIMIT', 0, SWEEP)
    if #dead > 0 then
      withdraw(dead)
    end
    n = call('ZCARD', part('w'))
  end
  soon, changed = first(part('d')), true
  if kind ~= '1' then
    soon = math.min(soon, first(part('e')))
  end
end

-- Whether the waiting lease of a claim still runs. Known without a look, unless a sweep had to leave some.
local function alive(id)
  if soon > now then
    return true
  end
  local finish = call('ZSCORE', part('d'), id)
  return finish and tonumber(finish) > now
end

-- The lease of a claim: as a holder, as a waiter, or for how long it is kept after its release.
local function length(record)
  local state = sub(record, RECORD.state)
  if state == 'w' then
    return tonumber(sub(record, RECORD.patience)) or NEVER
  end
  return tonumber(state == 'h' and sub(record, RECORD.lease) or sub(record, RECORD.kept)) or NEVER
end

-- No lease ends later than if it had begun now; one does where the server's clock was set back. In a set the last ones
-- are put right, and a long list in several visits.
local function rein(set)
  local moved, found = 0, call('ZRANGE', part(set), -1, -1, 'WITHSCORES')
  while found[1] and moved < GRANTS do
    local record = call('HGET', part('c'), found[1])
    local most = now + (record and length(record) or 0)
    if tonumber(found[2]) <= most then
      break
    end
    call('ZADD', part(set), format('%d', most), found[1])
    soon, moved = math.min(soon, most), moved + 1
    found = call('ZRANGE', part(set), -1, -1, 'WITHSCORES')
  end
  return found[2] and tonumber(found[2]) or 0, moved > 0
end

local function rein_in()
  if hid then
    local most = now + length(hrec)
    if hend >= most then
      hend, changed = most, true
    end
  end
  if n + (kind == '1' and 0 or k) == 0 or reined == base then
    return
  end
  reined = base
  local latest, moved = 0, false
  if n > 0 then
    latest, moved = rein('d')
  end
  if kind ~= '1' and k > 0 then
    local finish, also = rein('e')
    latest, moved = math.max(latest, finish), moved or also
  end
  if moved then
    keep = 0
    outlive(latest, true)
  end
end

-- Grants a free mutex to the first in line whose client is there. One whose client is away keeps its place.
local function hand_over()
  local away = 0
  while n > away and k == 0 and away < GRANTS do
    local id = call('ZRANGE', part('w'), away, away)[1]
    if not id then
      n, changed = away, true
      return
    end
    local record, before = call('HGET', part('c'), id), last
    if not record or sub(record, RECORD.version) ~= '1' or not alive(id) then
      withdraw({ id })
    else
      record = granted(record)
      if announce(id, record) then
        withdraw({ id })
        hid, hrec, hend, k = id, record, unconfirmed(record), 1
      else
        away, last = away + 1, before
      end
    end
  end
end

-- Grants the longest prefix of a line that fits, but for those whose clients are away: they keep their places.
local function admit()
  local total, more, away = 0, 0, 0
  while n > away and away < GRANTS do
    -- Mostly the first one does not fit, or only that one does.
    local ids = call('ZRANGE', part('w'), away, away + more, 'WITHSCORES')
    more = math.min(2 * more + 1, 63)
    local names = {}
    for i = 1, #ids, 2 do
      names[#names + 1] = ids[i]
    end
    if #names == 0 then
      n, changed = away, true
      return
    end
    local records = call('HMGET', part('c'), unpack(names))
    local out, dead, places, ends, fresh, latest, full = {}, {}, {}, {}, {}, 0, false
    for i, id in ipairs(names) do
      local record = records[i]
      if not record or sub(record, RECORD.version) ~= '1' or not alive(id) then
        dead[#dead + 1] = id
      else
        local weight = tonumber(sub(record, RECORD.weight))
        full = not has_room(weight, tonumber(sub(record, RECORD.capacity)))
        if full then
          break
        end
        if total >= GRANTS then
          -- The rest is granted when this one looks again: no script holds the server up for long.
          tell(record, '1l' .. id)
          full = true
          break
        end
        local before, finish, joined = last, unconfirmed(record), shared
        record = granted(record)
        if announce(id, record) then
          joins(record)
          used, total, latest, soon = used + weight, total + 1, math.max(latest, finish), math.min(soon, finish)
          out[#out + 1] = id
          places[#places + 1], places[#places + 2] = ids[2 * i], id
          ends[#ends + 1], ends[#ends + 2] = format('%d', finish), id
          fresh[#fresh + 1], fresh[#fresh + 2] = id, record
        else
          away, last, shared = away + 1, before, joined
        end
      end
    end
    if #dead > 0 then
      withdraw(dead)
    end
    if #out > 0 then
      call('ZREM', part('w'), unpack(out))
      call('ZREM', part('d'), unpack(out))
      call('ZADD', part('h'), unpack(places))
      call('ZADD', part('e'), unpack(ends))
      call('HSET', part('c'), unpack(fresh))
      local made = k == 0
      n, k, changed = n - #out, k + #out, true
      outlive(latest, made)
    end
    if full then
      return
    end
  end
end

local function pass_on()
  if n > 0 and (kind == '3' or not absurd) then
    if kind ~= '1' then
      admit()
    elseif k == 0 then
      hand_over()
    end
  end
end

-- What every verb begins and ends with: claims whose lease has ended go, and what became free is granted.
local function settle()
  rein_in()
  if hid and hend <= now then
    if sub(hrec, RECORD.state) == 'm' then
      mark(hid, '1')
    end
    vacate(over(hrec))
  end
  if hid and kind ~= '1' then
    spill()
  end
  if soon <= now then
    sweep()
  end
  pass_on()
end

-- The state of a claim in this line, its record, and when its lease ends: 'h' holds, 'w' waits, 'k' and 'm' released
-- for later. Nothing: not in this line.
local function find(id)
  if hid == id then
    return sub(hrec, RECORD.state), hrec, hend
  end
  if n + (kind == '1' and 0 or k) == 0 then
    return
  end
  local record = call('HGET', part('c'), id)
  if not record then
    return
  end
  local state = sub(record, RECORD.state)
  local finish = tonumber(call('ZSCORE', part(state == 'w' and 'd' or 'e'), id) or 0)
  if finish > now then
    return state, record, finish
  end
  if state == 'w' then
    withdraw({ id })
  else
    leave({ id })
  end
end

-- Sets the end of a lease, and the record with it if that changed.
local function put(id, state, record, finish, fresh)
  if hid == id then
    hrec, hend, changed = record, finish, true
    return
  end
  call('ZADD', part(state == 'w' and 'd' or 'e'), format('%d', finish), id)
  if fresh then
    call('HSET', part('c'), id, record)
  end
  if finish < soon then
    soon, changed = finish, true
  end
  outlive(finish, false)
end

-- The answer where no token can follow the last one.
local function far(id)
  return { id, 'T', stamp, sub(head, HEAD.last) }
end

-- Says where a claim waits.
local function waits(id, finish, ahead)
  local look = now + TIME.look
  if ahead < 2 then
    look = math.min(look, hid and hend or first(part('e')))
    if ahead == 1 then
      look = math.min(look, tonumber(call('ZSCORE', part('d'), call('ZRANGE', part('w'), 0, 0)[1]) or look))
    end
  end
  return { id, 'W', stamp, format('%016d', finish), format('%d', ahead), format('%016d', look) }
end

-- Renews a lease, and says where the claim stands.
local function renewed(id, state, record, fresh)
  if state == 'w' and absurd and kind ~= '3' then
    return far(id)
  end
  whatever_it_takes()
  local finish = now + length(record)
  put(id, state, record, finish, fresh)
  if state == 'h' then
    return { id, 'H', stamp, sub(record, RECORD.token), format('%016d', finish), sub(record, RECORD.before) }
  end
  return waits(id, finish, call('ZRANK', part('w'), id) or 0)
end

-- The answer where the head is of another version.
local function other(id)
  return { id, 'V', stamp, sub(head, HEAD.version) }
end

-- What is known of a claim that is not in the line.
local function gone(id)
  local text = marks > now and call('GET', part('m') .. id)
  if text and sub(text, MARK.what) == 'e' then
    return { id, 'E', stamp, sub(text, MARK.why) }
  end
  return { id, 'G', stamp }, text
end
