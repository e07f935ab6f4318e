-- vote_acquire: asks one of several servers for its vote, with a proposed token.
-- The vote expires with its lease. The floor does not: it is the greatest token that this server ever accepted. A claim that
-- was withdrawn, or is so old that its mark may have expired, gets no vote.
-- KEYS  1 the lock's votes, tenure:{namespace/name}:q  2 this claim's mark, tenure:{namespace/name}:m<claim>
-- ARGV  1 claim (32 hex digits)  2 round (16 digits)  3 lease in µs (16 digits)  4 proposed token (16 digits)  5 note
--       6 birth of the claim in µs on the server's clock (16 digits)
-- returns  {claim, 'A', now} it votes for the claim and accepted the token | {claim, 'L', now, floor} it votes for the claim;
--          the token is too low, or too far ahead | {claim, 'D', now, floor, left, rival} it has voted for another claim, or
--          for a later round of this one | {claim, 'T', now, token} no token can follow this one
--          | {claim, 'G', now} the claim is gone | {claim, 'E', now, why} it was evicted
--          | {claim, 'V', now, byte} the votes are of another version
local call, sub, format = redis.call, string.sub, string.format
local id, round, lease, proposed = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
--include vote.lua
if not open(KEYS[1]) then
  return { id, 'V', stamp, version }
end
local gone = marked(id, KEYS[2])
if gone then
  return gone
end
if voter ~= id and now - tonumber(ARGV[6]) > TIME.old then
  return { id, 'G', stamp }
end
if absurd then
  return { id, 'T', stamp, format('%016d', stored) }
end
if voter and (voter ~= id or rounds > round) then
  return { id, 'D', stamp, format('%016d', floor), format('%016d', finish - now), sub(redis.sha1hex(voter), 1, 15) }
end
if voter ~= id or rounds ~= round then
  token, since = 0, floor
end
voter, rounds, finish, note = id, round, now + lease, ARGV[5]
local reply = { id, 'L', stamp, format('%016d', floor) }
if token > 0 and token == proposed then
  reply = { id, 'A', stamp }
elseif proposed > floor and proposed <= now + TIME.proposal then
  token, stored = proposed, proposed
  reply = { id, 'A', stamp }
end
save(KEYS[1])
return reply
