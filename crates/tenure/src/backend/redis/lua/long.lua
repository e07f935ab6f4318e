-- The head of a mutex as it was granted to a claim that is alone, as long as any other. Included where a verb says
-- `--include long.lua`.
-- Uses  sub, format; head: what was read
-- Gives  head: in its long form
if head and sub(head, 1, 2) == '14' then
  local t = sub(head, 3, 18)
  head = '11' .. t .. '0000000000000000000000000000000090000000000000000000000000000000'
    .. '00000000000001000000000000000000000000000' .. sub(head, 19, 50)
    .. format('%016d', t + sub(head, 71, 81)) .. '1h' .. sub(head, 51, 92) .. t .. t .. sub(head, 93)
end
