-- vote_transfer: the vote of one claim becomes that of another, with its token. The first claim is marked with the second.
-- KEYS  1 the lock's votes  2 the mark of the second claim
-- ARGV  1 the second claim, which is to have it  2 the claim that has it  3 round (16 digits)  4 lease in µs (16 digits)  5 note
--       6 birth of the second claim in µs on the server's clock (16 digits)
-- returns  what vote_extend returns to the second claim | {claim, 'O', now} the vote became that of a third one
local call, sub, format = redis.call, string.sub, string.format
local id, from, lease = ARGV[1], ARGV[2], tonumber(ARGV[4])
--include vote.lua
if not open(KEYS[1]) then
  return { id, 'V', stamp, version }
end
local first = sub(KEYS[1], 1, -2) .. 'm' .. from
local gone = marked(id, KEYS[2])
if gone then
  return gone
end
if voter == from and voter ~= id and rounds ~= KEPT and token > 0 and stored == token and now - tonumber(ARGV[6]) <= TIME.old then
  voter, rounds, finish, note = id, ARGV[3], now + lease, ARGV[5]
  call('SET', first, '1t' .. id, 'PX', TIME.mark_ms)
  save(KEYS[1])
elseif voter ~= id or token == 0 then
  local mark = call('GET', first)
  if mark and sub(mark, MARK.what) == 't' and sub(mark, MARK.why) ~= id then
    return { id, 'O', stamp }
  end
  return marked(id, first) or { id, 'N', stamp }
end
return { id, 'Y', stamp, format('%016d', token) }
