-- Fences in Redis: a hash of two fields, `domain` and `token`, beside the resource that it protects.
-- The check runs before the script that reads or changes the resource, so both are one atomic step. Tokens are compared
-- as texts of digits, because Lua's numbers are exact up to 2^53 only. A token is at most 2^63 - 1.
-- inputs   KEYS[1] the fence  ARGV[1] domain  ARGV[2] token; further keys and arguments are the resource's own
-- outputs  check: an error of code TENUREFENCE, or whatever the rest of the script returns
--          raise, reset: {domain, token} as they are now

--- check
do
  local function number(text)
    return text and string.find(text, '^[1-9]%d*$') and (#text < 19 or (#text == 19 and text <= '9223372036854775807'))
  end
  local domain, token = ARGV[1], ARGV[2]
  local kept = redis.call('HMGET', KEYS[1], 'domain', 'token')
  local highest = kept[2]
  if not number(token) then
    return redis.error_reply('TENUREFENCE tenure fence: this is no token')
  elseif not kept[1] and not highest then
    redis.call('HSET', KEYS[1], 'domain', domain, 'token', token)
  elseif not kept[1] or not number(highest) then
    return redis.error_reply('TENUREFENCE tenure fence: damaged; find out the highest token and reset it')
  elseif kept[1] ~= domain then
    return redis.error_reply('TENUREFENCE tenure fence: other domain: the token belongs to ' .. domain
      .. ', and this resource knows tokens of ' .. kept[1])
  elseif #token < #highest or (#token == #highest and token < highest) then
    return redis.error_reply('TENUREFENCE tenure fence: stale token ' .. token .. ': this resource has seen ' .. highest)
  elseif token ~= highest then
    redis.call('HSET', KEYS[1], 'token', token)
  end
end
--- raise
local kept = redis.call('HMGET', KEYS[1], 'domain', 'token')
local token, highest = ARGV[2], kept[2]
if not string.find(token, '^[1-9]%d*$') or #token > 19 or (#token == 19 and token > '9223372036854775807') then
  return redis.error_reply('TENUREFENCE tenure fence: this is no token')
end
if kept[1] == ARGV[1] and highest and (#token > #highest or (#token == #highest and token > highest)) then
  redis.call('HSET', KEYS[1], 'token', token)
end
return redis.call('HMGET', KEYS[1], 'domain', 'token')
--- reset
local token = ARGV[2]
if not string.find(token, '^[1-9]%d*$') or #token > 19 or (#token == 19 and token > '9223372036854775807') then
  return redis.error_reply('TENUREFENCE tenure fence: this is no token')
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'domain', ARGV[1], 'token', ARGV[2])
return { ARGV[1], ARGV[2] }
