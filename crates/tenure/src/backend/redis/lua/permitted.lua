-- permitted: which of the commands that the other scripts need the user may not run, or the server has under other names.
-- A script that is refused in its middle has done half of its work, so this is asked before. It leaves nothing behind.
-- ARGV  1 a key that nothing else uses  2 this client's channel, or '' where nothing is told
-- returns  the names of commands that are refused
local key, channel = ARGV[1], ARGV[2]
local refused = {}

local function try(...)
  local answer = redis.pcall(...)
  local why = type(answer) == 'table' and answer.err
  if why and (string.find(why, "can't run this command", 1, true) or string.find(why, "can't publish", 1, true)
    or string.find(why, 'Unknown.* command called from')) then
    refused[#refused + 1] = string.lower((...))
  end
end

try('TIME')
try('GET', key)
try('SET', key, '1', 'XX')
try('DEL', key)
try('PEXPIRE', key, '1')
if channel == '' then
  try('PTTL', key)
  return refused
end
try('PEXPIREAT', key, '1')
try('ZADD', key, 'XX', '1', 'a')
try('ZREM', key, 'a')
try('ZPOPMIN', key)
try('ZRANGE', key, '0', '0')
try('ZRANGEBYSCORE', key, '0', '0')
try('ZRANK', key, 'a')
try('ZSCORE', key, 'a')
try('ZMSCORE', key, 'a')
try('ZCARD', key)
try('ZCOUNT', key, '0', '0')
try('HGET', key, 'a')
try('HMGET', key, 'a')
try('HDEL', key, 'a')
try('PUBLISH', channel, '')
if #refused == 0 then
  -- These make something, which goes at once.
  try('HSET', key, 'a', '1')
  try('HSETNX', key, 'a', '1')
  redis.pcall('DEL', key)
end
return refused
