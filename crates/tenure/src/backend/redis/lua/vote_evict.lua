-- vote_evict: an operator takes the vote away. The claim that had it is marked with the reason.
-- KEYS  1 the lock's votes
-- ARGV  1 the request (32 hex digits)  2 token (16 digits); zeros: whatever it is  3 by whom and why
-- returns  {request, 'Y', now, token} taken away | {request, 'N', now} there was no such vote | {request, 'V', now, byte} another version
local call, sub, format = redis.call, string.sub, string.format
local id, asked = ARGV[1], tonumber(ARGV[2])
--include vote.lua
if not open(KEYS[1]) then
  return { id, 'V', stamp, version }
end
if not voter or token == 0 or asked > 0 and token ~= asked then
  return { id, 'N', stamp }
end
local taken = format('%016d', token)
call('SET', sub(KEYS[1], 1, -2) .. 'm' .. voter, '1e' .. ARGV[3], 'PX', TIME.mark_ms)
voter = nil
save(KEYS[1])
return { id, 'Y', stamp, taken }
