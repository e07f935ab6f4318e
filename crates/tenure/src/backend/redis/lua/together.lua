-- together: attempts and releases that were asked for in the same instant, in one call.
-- Each is done as if it had come alone, in the order in which they came; one that fails does not stop the others.
-- KEYS  the head of each verb's lock; the same one may come twice
-- ARGV  for each key: 'a' and the arguments of attempt, or 'r' and those of release
-- returns  for each key what the verb returns, as one text with a space between fields; or '!' and why it failed
local call, sub, format = redis.call, string.sub, string.format
local time = call('TIME')
local stamp = format('%s%06d', time[1], time[2])
--include take.lua
--include give.lua

local words, replies, at = ARGV, {}, 1

local function common(name)
  if words[at] == 'r' then
    local trace = words[at + 2]
    return (trace == '' or sub(trace, 1, 1) == 't') and give(name, words[at + 1], trace)
  end
  return take(name, words[at + 1], words[at + 2], words[at + 3], words[at + 4], words[at + 5], words[at + 6])
end

local function message(why)
  return '!' .. tostring(type(why) == 'table' and why.err or why)
end

local rest
for i, name in ipairs(KEYS) do
  local done, reply = pcall(common, name)
  if done and not reply then
    rest = i
    break
  end
  replies[i] = done and reply or message(reply)
  at = at + (words[at] == 'r' and 4 or 7)
end
if not rest then
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
  settle()
  if words[at] == 'r' then
    reply = quit(id, words[at + 2], tonumber(words[at + 3]))
  else
    reply = stand(id, words[at + 2], words[at + 3], words[at + 4], tonumber(words[at + 5]), words[at + 6])
  end
  save()
  return table.concat(reply, ' ')
end

for i = rest, #KEYS do
  local done, reply = pcall(verb, KEYS[i])
  replies[i] = done and reply or message(reply)
  at = at + (words[at] == 'r' and 4 or 7)
end
return replies
