-- The server's time. Included where a verb says `--include now.lua`.
-- Uses  call, sub; stamp: declared
-- Gives  stamp: the time in µs as 16 digits, put together as text: to make a number of text, or text of a number, costs more
--        than all the rest of a common verb
local time = call('TIME')
local usec = time[2]
if #usec < 6 then
  usec = sub('00000' .. usec, -6)
end
stamp = time[1] .. usec
