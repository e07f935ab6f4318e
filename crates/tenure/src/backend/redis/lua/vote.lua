-- The vote and the floor that one of several servers keeps for a lock. Included by `--include vote.lua`.
-- Uses  call, sub, format
-- Gives  now, stamp: the time in µs, as a number and as 16 digits; KEPT: the round of a hold that stays after its release;
--        open, save, marked; and of the lock: version; stored: the greatest token that was accepted; floor: that, or the clock
--        minus a lag; absurd: the stored token is too far ahead; voter, rounds, finish, since, token, note: the vote, until it
--        expires; since: the floor when the server voted
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local stamp = format('%016d', now)
local KEPT = '9999999999999999'
local version, stored, floor, absurd, voter, rounds, finish, since, token, note

-- Reads the votes. False: another version wrote them.
local function open(name)
  local votes = call('GET', name)
  stored, voter, rounds, finish, since, token, note = 0, nil, '', 0, 0, 0, ''
  if votes then
    version = sub(votes, VOTE.version)
    if version ~= '1' then
      return false
    end
    stored = tonumber(sub(votes, VOTE.floor))
    if sub(votes, VOTE.claim) ~= '' then
      finish = tonumber(sub(votes, VOTE.finish))
      if finish - now > tonumber(sub(votes, VOTE.lease)) then
        -- The clock was set back: no lease ends later than if it had begun now.
        finish = now + tonumber(sub(votes, VOTE.lease))
      end
      if finish > now then
        voter, rounds = sub(votes, VOTE.claim), sub(votes, VOTE.round)
        since, token, note = tonumber(sub(votes, VOTE.since)), tonumber(sub(votes, VOTE.token)), sub(votes, VOTE.note)
      end
    end
  end
  floor = math.max(stored, now - TIME.floor_lag)
  absurd = stored > now + TIME.ahead
  return true
end

-- The votes outlive the lease by ten minutes, for the floor.
local function save(name)
  local text, till = '1' .. format('%016d', stored), now
  if voter then
    text = text .. format('%016d%016d', finish, finish - now) .. voter .. rounds .. format('%016d%016d', since, token) .. note
    till = finish
  end
  call('SET', name, text, 'PX', format('%d', (till - now) / 1000 + TIME.free_ms))
end

-- The answer for a claim that has a mark: it was evicted, or it is gone. Nil: it has none.
local function marked(id, name)
  local mark = call('GET', name)
  if mark and sub(mark, MARK.what) == 'e' then
    return { id, 'E', stamp, sub(mark, MARK.why) }
  end
  return mark and { id, 'G', stamp }
end
