-- vote_release: takes the vote back, or leaves it for a while without a renewal. The floor stays.
-- It names the last round that it is about: a late request cannot take a vote of the claim's next round. A mark makes sure that
-- no late request of the claim gets a vote.
-- KEYS  1 the lock's votes  2 this claim's mark
-- ARGV  1 claim  2 round (16 digits)  3 for how long the hold is to stay, in µs (16 digits); zeros: not at all
--       4 whether to leave a mark: 1 or 0  5 birth of the claim in µs on the server's clock (16 digits)
-- returns  {claim, 'h', now} it had this vote with a token | {claim, 'v', now} a vote without one
--          | {claim, 'g', now} no vote, or one that stays | {claim, 'V', now, byte} another version
local call, sub, format = redis.call, string.sub, string.format
local id, round, stays = ARGV[1], ARGV[2], tonumber(ARGV[3])
--include vote.lua
if not open(KEYS[1]) then
  return { id, 'V', stamp, version }
end
if ARGV[4] == '1' and now - tonumber(ARGV[5]) <= TIME.old then
  call('SET', KEYS[2], '1m', 'PX', TIME.mark_ms, 'NX')
end
if voter ~= id or rounds > round or rounds == KEPT then
  return { id, 'g', stamp }
end
local had = token > 0
if had and stays > 0 then
  rounds, finish = KEPT, now + stays
else
  voter = nil
end
save(KEYS[1])
return { id, had and 'h' or 'v', stamp }
