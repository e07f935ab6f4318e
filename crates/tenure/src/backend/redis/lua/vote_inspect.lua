-- vote_inspect: whom this server has voted for. At most a hundred locks in one call.
-- KEYS  the locks' votes
-- returns  for each lock {now, floor, claim, left, token, note}; with an empty claim where there is no vote; or {now, 'V', byte}
local call, sub, format = redis.call, string.sub, string.format
--include vote.lua
local replies = {}
for i, name in ipairs(KEYS) do
  if not open(name) then
    replies[i] = { stamp, 'V', version }
  elseif voter then
    replies[i] = { stamp, format('%016d', stored), voter, format('%016d', finish - now), format('%016d', token), note }
  else
    replies[i] = { stamp, format('%016d', stored), '', '', '', '' }
  end
end
return replies
