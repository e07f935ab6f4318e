-- How a claim leaves: the body of a release. Included where a verb says `--include quit.lua`, after the line.
-- Uses  the line, open and settled. Its arguments are those of release, birth as a number.

local function quit(id, trace, birth)
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
    elseif not (marks > now and call('GET', part('m') .. id)) and now - birth <= 60000000 then
      mark(id, '1')
    end
  end
  return { id, found, stamp }
end
