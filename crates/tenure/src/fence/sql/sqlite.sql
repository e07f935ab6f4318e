-- Fences in SQLite 3.24 and newer: one row for each resource.
-- A trigger fails a check whose token is stale or of another domain, so the program rolls back the transaction that was to
-- change the resource. The database stays locked for writers until the end of that transaction.
-- inputs   ?1 resource (text)  ?2 domain (text)  ?3 token (integer)
-- outputs  check: nothing, or an error whose text begins with "tenure fence: stale token" or "tenure fence: other domain"
--          show: domain, token | raise, reset: how many rows they changed

--- migration
CREATE TABLE IF NOT EXISTS tenure_fence (
  -- A name that is bound as a blob would be another one than the same name as a text.
  resource TEXT NOT NULL COLLATE BINARY PRIMARY KEY CHECK (typeof(resource) = 'text'),
  domain TEXT NOT NULL COLLATE BINARY CHECK (typeof(domain) = 'text'),
  token INTEGER NOT NULL CHECK (typeof(token) = 'integer' AND token > 0),
  -- Counts resets: only they may change the domain or lower the token.
  epoch INTEGER NOT NULL DEFAULT 0
);
--- migration
CREATE TRIGGER IF NOT EXISTS tenure_fence_refuse BEFORE UPDATE ON tenure_fence WHEN NEW.epoch = OLD.epoch
BEGIN
  SELECT RAISE(ABORT, 'tenure fence: other domain: this resource knows tokens of another store; see the show statement')
  WHERE NEW.domain <> OLD.domain;
  SELECT RAISE(ABORT, 'tenure fence: stale token: this resource has seen a higher one; see the show statement')
  WHERE NEW.token < OLD.token;
END;
--- check
INSERT INTO tenure_fence (resource, domain, token) VALUES (?1, ?2, ?3)
ON CONFLICT (resource) DO UPDATE SET domain = excluded.domain, token = excluded.token
--- show
SELECT domain, token FROM tenure_fence WHERE resource = ?1
--- raise
UPDATE tenure_fence SET token = max(token, ?3) WHERE resource = ?1 AND domain = ?2
--- reset
INSERT INTO tenure_fence (resource, domain, token) VALUES (?1, ?2, ?3)
ON CONFLICT (resource) DO UPDATE SET domain = excluded.domain, token = excluded.token, epoch = epoch + 1
