-- release: ends a hold, or withdraws a waiting claim.
-- What became free is granted to the next in line, who is told. A second release finds nothing.
-- KEYS  1 the lock's head
-- ARGV  1 claim
--       2 what to leave: '' nothing; `s` nothing, and the lease has surely not ended: whoever asks would not hear an answer that
--         is so late; `m` and its birth in µs on the server's clock (16 digits): a mark; 16 digits: for how
--         many µs the hold goes on; `t` and how many (10 digits): nothing, and of several tokens of a mutex so many were used;
--         the others go back, if none was given since
-- returns  as a list, or in the common cases as one text with a space between fields:
--          {claim, 'h'} or {claim, 'h', now} it held | {claim, 'w', now} it waited | {claim, 'g', now} not known
--          | {claim, 'V', now, byte} the head is of another version
local call, try, sub, byte, format = redis.call, redis.pcall, string.sub, string.byte, string.format
local name, id, trace = KEYS[1], ARGV[1], ARGV[2]
local reply, stamp
--include give.lua

if reply then
  return reply
end

if not stamp then
  --include now.lua
end
--include line.lua
--include quit.lua

if not open(name) then
  return other(id)
end
settle()
reply = quit(id, trace)
save()
return reply
