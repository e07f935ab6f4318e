-- Fences in MySQL 5.7 and newer and MariaDB 10.3 and newer: one row for each resource, in InnoDB.
-- The check is a procedure that signals an error for a token that is stale or of another domain, so that the transaction
-- which was to change the resource is not committed; the row stays locked until the end of that transaction.
-- inputs   1 resource (up to 200 characters)  2 domain  3 token (BIGINT), in this order
-- outputs  check: nothing, or an error: SQLSTATE TF001 stale token, TF002 other domain | show: domain, token
--          raise, reset: how many rows they changed

--- migration
CREATE TABLE IF NOT EXISTS tenure_fence (
  resource VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,
  domain VARCHAR(200) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  token BIGINT NOT NULL,
  CHECK (token > 0)
) ENGINE = InnoDB
--- migration
DROP PROCEDURE IF EXISTS tenure_fence_check
--- migration
CREATE PROCEDURE tenure_fence_check(
  IN p_resource VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
  IN p_domain VARCHAR(200) CHARACTER SET ascii COLLATE ascii_bin,
  IN p_token BIGINT
)
MODIFIES SQL DATA
BEGIN
  DECLARE v_domain VARCHAR(200) CHARACTER SET ascii COLLATE ascii_bin;
  DECLARE v_token BIGINT;
  DECLARE v_text VARCHAR(128) CHARACTER SET utf8mb4;
  -- Registers in one step, so that nothing goes back even without a transaction around it; then judges.
  INSERT INTO tenure_fence (resource, domain, token) VALUES (p_resource, p_domain, p_token)
  ON DUPLICATE KEY UPDATE token = IF(domain = p_domain, GREATEST(token, p_token), token);
  SELECT f.domain, f.token INTO v_domain, v_token FROM tenure_fence f WHERE f.resource = p_resource FOR UPDATE;
  IF v_domain <> p_domain THEN
    SET v_text = CONCAT('tenure fence: other domain: the token is of ', LEFT(p_domain, 30), ', this resource knows ',
                        LEFT(v_domain, 30));
    SIGNAL SQLSTATE 'TF002' SET MESSAGE_TEXT = v_text;
  ELSEIF v_token > p_token THEN
    SET v_text = CONCAT('tenure fence: stale token ', p_token, ': this resource has seen ', v_token);
    SIGNAL SQLSTATE 'TF001' SET MESSAGE_TEXT = v_text;
  END IF;
END
--- migration
DROP PROCEDURE IF EXISTS tenure_fence_raise
--- migration
CREATE PROCEDURE tenure_fence_raise(
  IN p_resource VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
  IN p_domain VARCHAR(200) CHARACTER SET ascii COLLATE ascii_bin,
  IN p_token BIGINT
)
MODIFIES SQL DATA
  UPDATE tenure_fence SET token = GREATEST(token, p_token) WHERE resource = p_resource AND domain = p_domain
--- check
CALL tenure_fence_check(?, ?, ?)
--- show
SELECT domain, token FROM tenure_fence WHERE resource = ?
--- raise
CALL tenure_fence_raise(?, ?, ?)
--- reset
INSERT INTO tenure_fence (resource, domain, token) VALUES (?, ?, ?)
ON DUPLICATE KEY UPDATE domain = VALUES(domain), token = VALUES(token)
