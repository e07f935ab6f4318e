-- The head of a mutex as it was granted to a claim that is alone, as long as any other. Included where a verb says
-- `--include long.lua`.
-- Uses  sub, format, stamp; head: what was read
-- Gives  head: in its long form
if head and sub(head, SHORT.version.to.kind) == '14' then
  local t = sub(head, SHORT.last)
  head = '11' .. t .. '0000000000000000000000000000000090000000000000000000000000000000'
    .. '00000000000001000000000000000000000000000' .. sub(head, SHORT.holder)
    .. format('%016d', (t < stamp and t or stamp) + sub(head, SHORT.lease)) .. '1h' .. sub(head, SHORT.terms) .. t .. t .. sub(head, SHORT.client)
end
