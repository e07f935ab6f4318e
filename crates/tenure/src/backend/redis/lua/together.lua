-- together: attempts and releases that were asked for in the same instant, in one call.
-- Each is done as if it had come alone, in the order in which they came; one that fails does not stop the others.
-- KEYS  the head of each verb's lock; the same one may come twice
-- ARGV  for each key: 'a' and the arguments of attempt, or 'r' and those of release
-- returns  for each key what the verb returns, as one text with a space between fields; or '!' and why it failed
local call, try, sub, byte, format = redis.call, redis.pcall, string.sub, string.byte, string.format
local stamp
--include now.lua
local words, replies, at = ARGV, {}, 1
local heads = KEYS
local tens, usual, ends = sub(stamp, STAMP.tens), nil, nil

local function common(name)
  local id, reply = words[at + 1], nil
  if words[at] == 'r' then
    local trace = words[at + 2]
    --include give.lua
  else
    local asked, how = words[at + 2], words[at + 3]
    --include take.lua
  end
  return reply
end

-- Verb by verb, with what is guarded against an error being the whole of it: to guard each costs more.
local i = 1
local function all(verb)
  while heads[i] do
    local reply = verb(heads[i])
    if not reply then
      return
    end
    replies[i] = reply
    i, at = i + 1, at + (words[at] == 'r' and 3 or 4)
  end
end

local function through(verb)
  while true do
    local done, why = pcall(all, verb)
    if done then
      return
    end
    replies[i] = '!' .. tostring(type(why) == 'table' and why.err or why)
    i, at = i + 1, at + (words[at] == 'r' and 3 or 4)
  end
end

through(common)
if not heads[i] then
  return replies
end

--include line.lua
--include stand.lua
--include quit.lua

local function verb(name)
  local reply = common(name)
  if reply then
    return reply
  end
  local id = words[at + 1]
  if not open(name) then
    return table.concat(other(id), ' ')
  end
  asker = words[at] == 'a' and id
  settle()
  if words[at] == 'r' then
    reply = quit(id, words[at + 2])
  else
    reply = stand(id, words[at + 2], words[at + 3])
  end
  save()
  return table.concat(reply, ' ')
end

through(verb)
return replies
