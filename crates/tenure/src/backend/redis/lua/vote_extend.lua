-- vote_extend: renews the lease of a claim that has this server's vote. Never creates a vote, and revives none.
-- It compares with the greatest accepted token and not with the floor, which would refuse every long hold.
-- KEYS  1 the lock's votes  2 this claim's mark
-- ARGV  1 claim  2 token (16 digits; zeros: the one that is here)  3 lease in µs (16 digits)  4 note
-- returns  {claim, 'Y', now, token} renewed | {claim, 'N', now} it has no vote | {claim, 'E', now, why} it was evicted
--          | {claim, 'V', now, byte} another version
local call, sub, format = redis.call, string.sub, string.format
local id, asked, lease = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
--include vote.lua
if not open(KEYS[1]) then
  return { id, 'V', stamp, version }
end
local gone = marked(id, KEYS[2])
if gone then
  return gone
end
if asked == 0 then
  asked = token
end
if voter ~= id or rounds == KEPT or asked == 0 or stored > asked then
  return { id, 'N', stamp }
end
stored, token, finish, note = asked, asked, now + lease, ARGV[4]
save(KEYS[1])
return { id, 'Y', stamp, format('%016d', token) }
