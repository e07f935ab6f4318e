-- vote_floor: a token was granted elsewhere. No vote.
-- KEYS  1 the lock's votes
-- ARGV  1 claim  2 token (16 digits)
-- returns  {claim, 'Y', now} | {claim, 'V', now, byte} another version
local call, sub, format = redis.call, string.sub, string.format
local id, asked = ARGV[1], tonumber(ARGV[2])
--include vote.lua
if not open(KEYS[1]) then
  return { id, 'V', stamp, version }
end
if asked > stored and asked <= now + TIME.proposal then
  stored = asked
  save(KEYS[1])
end
return { id, 'Y', stamp }
