-- scan: finds locks that somebody holds or waits for, a step at a time. Changes nothing.
-- A head is looked at where it lies: those of free locks, of which there are many, cost no more than that.
-- ARGV  1 cursor, '0' at first  2 pattern of their heads  3 how many keys to go through
-- returns  {cursor, heads}: '0' ends it. A key that holds something else than a head is among them
local byte = string.byte
local found = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
local out = {}
for _, name in ipairs(found[2]) do
  local head = redis.pcall('GET', name)
  local version, kind
  if type(head) == 'string' then
    version, kind = byte(head, HEAD.version.to.kind)
  end
  if head and (version ~= 49 or kind ~= 48 and (not kind or kind < 54 or kind > 56)) then
    out[#out + 1] = name
  end
end
return { found[1], out }
