-- attempt: stands in line, or looks again.
-- A claim that is in line already keeps its place and its lease is renewed; a new one is granted at once if it fits and
-- nobody waits. A claim that was withdrawn, or is so old that its mark may be gone, is never granted.
-- KEYS  1 the lock's head, tenure:{namespace/name}:l
-- ARGV  1 claim (32 hex digits)
--       2 what is asked for. Terms: weight (10 digits), capacity (10), lease of a holder in µs (11), lease of a waiter in µs
--         (11); a mutex has no capacity but 1: in its place, how many tokens are to be the claim's own, from that of its
--         grant on. And who asks: client (16 hex digits), note
--       3 how. Kind: 1 mutex, 2 read-write, 3 semaphore; whether to stand in line: 1 or 0; birth in µs on the server's clock
--         (16 digits)
-- returns  as a list, or in the common cases as one text with a space between fields:
--          {claim, 'H', now, token, end, before} it holds | {claim, 'H', now, before} it holds from now on, for its lease; its
--          token is now; before: how the hold before ended, 'r' released, 'x' expired, 'e' evicted, 'u' unknown
--          | {claim, 'W', now, end, ahead, look} it waits | {claim, 'B', now} busy | {claim, 'G', now} gone
--          | {claim, 'E', now, why} evicted | {claim, 'K', now, kind} the line is of this kind
--          | {claim, 'F', now} too many wait | {claim, 'V', now, byte} the head is of another version
--          | {claim, 'T', now, token} no token can follow this one, which lies too far ahead of the server's clock
local call, try, sub, byte, format = redis.call, redis.pcall, string.sub, string.byte, string.format
local name, id, asked, how = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local reply, stamp
--include now.lua
local tens, usual, ends = sub(stamp, STAMP.tens), nil, nil
--include take.lua

if reply then
  return reply
end

--include line.lua
--include stand.lua

if not open(name) then
  return other(id)
end
asker = id
settle()
reply = stand(id, asked, how)
save()
return reply
