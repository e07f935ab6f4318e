-- The head of a mutex as it was granted to a claim that is alone, as long as any other. Included where a verb says
-- `--include long.lua`.
-- Uses  sub, format, stamp; head: what was read
-- Gives  head: in its long form
local brief = head and sub(head, SHORT.version.to.kind)
if brief == '14' or brief == '15' then
  local t, before = sub(head, SHORT.last), brief == '14' and 'r' or 'u'
  head = '11' .. t .. '0000000000000000000000000000000090000000000000000000000000000000'
    .. '00000000000001000000000000000000000000000' .. before .. sub(head, SHORT.holder)
    .. format('%016d', (t < stamp and t or stamp) + sub(head, SHORT.lease)) .. '1h' .. before .. sub(head, SHORT.terms) .. t .. t .. sub(head, SHORT.client)
end
