-- vote_promote: a quorum voted for the claim, and the token that it proposed was too low: here is a greater one.
-- It is compared with the floor of the vote: that of now moves with the clock, away from a client whose own is behind.
-- KEYS  1 the lock's votes
-- ARGV  1 claim  2 round (16 digits)  3 token (16 digits)
-- returns  {claim, 'Y', now} accepted | {claim, 'N', now} not | {claim, 'V', now, byte} another version
local call, sub, format = redis.call, string.sub, string.format
local id, round, asked = ARGV[1], ARGV[2], tonumber(ARGV[3])
--include vote.lua
if not open(KEYS[1]) then
  return { id, 'V', stamp, version }
end
if voter ~= id or rounds ~= round then
  return { id, 'N', stamp }
end
if token ~= asked then
  if asked <= stored or asked <= since then
    return { id, 'N', stamp }
  end
  token, stored = asked, asked
  save(KEYS[1])
end
return { id, 'Y', stamp }
