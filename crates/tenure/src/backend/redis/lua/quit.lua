-- How a claim leaves: the body of a release. Included where a verb says `--include quit.lua`, after the line.
-- Uses  the line, open and settled. Its arguments are those of release.

local function quit(id, trace)
  whatever_it_takes()
  local what = sub(trace, TRACE.what)
  local state, record, finish = find(id)
  local found = 'g'
  if state == 'h' or state == 'w' then
    found = state
    local spent = what == 't' and (tonumber(sub(trace, TRACE.number)) or 0)
    if state == 'h' and trace ~= '' and what ~= 's' and what ~= 'm' and not spent then
      record = '1k' .. sub(record, RECORD.before.to.capacity) .. format('%022d', tonumber(trace)) .. sub(record, RECORD.since.on)
      put(id, state, record, now + tonumber(trace), true)
    else
      if hid == id then
        -- A mutex: what shares a lock does not lie in the head now. The tokens that were not used go back, if none was
        -- given since.
        local own, t = tonumber(sub(record, RECORD.capacity)), tonumber(sub(record, RECORD.token))
        if spent and spent >= 1 and spent <= own and last == t + own - 1 then
          last = t + spent - 1
        end
        vacate('r')
      elseif state == 'h' then
        leave({ id }, 'r')
      else
        withdraw({ id })
      end
      if what == 'm' then
        mark(id, '1')
      end
    end
    settle()
  elseif what == 'm' then
    if state then
      put(id, state, '1m' .. sub(record, RECORD.before.on), finish, true)
    elseif not (marks > now and call('GET', part('m') .. id)) and now - tonumber(sub(trace, TRACE.number)) <= TIME.old then
      mark(id, '1')
    end
  end
  return { id, found, stamp }
end
