-- Fences in PostgreSQL 9.5 and newer: one row for each resource.
-- The check is a function that raises an error if the token is stale or of another domain. The error rolls back the
-- transaction that was to change the resource. The row stays locked until the end of that transaction.
-- inputs   $1 resource (text)  $2 domain (text)  $3 token (bigint)
-- outputs  check: nothing, or an error: SQLSTATE TF001 stale token, TF002 other domain | show: domain, token
--          raise, reset: how many rows they changed

--- migration
CREATE TABLE IF NOT EXISTS tenure_fence (
  -- Byte for byte, whatever the collation of the database takes for equal.
  resource text COLLATE "C" PRIMARY KEY,
  domain text COLLATE "C" NOT NULL,
  token bigint NOT NULL CHECK (token > 0)
);
--- migration
CREATE OR REPLACE FUNCTION tenure_fence_check(p_resource text, p_domain text, p_token bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  v_domain text;
  v_token bigint;
BEGIN
  -- One step: waits for transactions that are inside, then sees the tokens that they registered.
  INSERT INTO tenure_fence AS f (resource, domain, token) VALUES (p_resource, p_domain, p_token)
  ON CONFLICT (resource) DO UPDATE
    SET token = CASE WHEN f.domain = EXCLUDED.domain THEN GREATEST(f.token, EXCLUDED.token) ELSE f.token END
  RETURNING f.domain, f.token INTO v_domain, v_token;
  IF v_domain <> p_domain THEN
    RAISE EXCEPTION USING ERRCODE = 'TF002',
      MESSAGE = format('tenure fence: other domain: the token belongs to %s, and %s knows tokens of %s',
                       p_domain, p_resource, v_domain),
      HINT = 'use one store for this resource, or move it to the other one with the reset statement';
  ELSIF v_token > p_token THEN
    RAISE EXCEPTION USING ERRCODE = 'TF001',
      MESSAGE = format('tenure fence: stale token %s: %s has seen %s', p_token, p_resource, v_token),
      HINT = 'another holder was granted the lock: stop the work';
  END IF;
END
$$;
--- check
SELECT tenure_fence_check($1, $2, $3)
--- show
SELECT domain, token FROM tenure_fence WHERE resource = $1
--- raise
UPDATE tenure_fence SET token = GREATEST(token, $3) WHERE resource = $1 AND domain = $2
--- reset
INSERT INTO tenure_fence (resource, domain, token) VALUES ($1, $2, $3)
ON CONFLICT (resource) DO UPDATE SET domain = EXCLUDED.domain, token = EXCLUDED.token
