-- Fences in MySQL 5.7 and newer and MariaDB 10.3 and newer: one row for each resource, in InnoDB.
-- The check is a procedure that signals an error if the token is stale or of another domain, so the program rolls back the
-- transaction that was to change the resource. The row stays locked until the end of that transaction.
-- Names of resources are kept as bytes of UTF-8: every collation takes some different names for equal (`x` and `x `).
-- inputs   1 resource (up to 200 characters)  2 domain  3 token (BIGINT), in this order
-- outputs  check: nothing, or an error: SQLSTATE TF001 stale token, TF002 other domain | show: domain, token
--          raise, reset: how many rows they changed | each: SQLSTATE 22001 if the name is too long

--- migration
CREATE TABLE IF NOT EXISTS tenure_fence (
  resource VARBINARY(800) NOT NULL PRIMARY KEY,
  domain VARCHAR(200) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  token BIGINT NOT NULL,
  CHECK (token > 0)
) ENGINE = InnoDB
--- migration
DROP PROCEDURE IF EXISTS tenure_fence_check
--- migration
CREATE PROCEDURE tenure_fence_check(
  IN p_resource VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
  IN p_domain VARCHAR(200) CHARACTER SET ascii COLLATE ascii_bin,
  IN p_token BIGINT
)
MODIFIES SQL DATA
BEGIN
  DECLARE v_name VARBINARY(800);
  DECLARE v_domain VARCHAR(200) CHARACTER SET ascii COLLATE ascii_bin;
  DECLARE v_token BIGINT;
  DECLARE v_text VARCHAR(128) CHARACTER SET utf8mb4;
  -- Outside of the strict mode, the server would cut the name off and take another one.
  IF CHAR_LENGTH(p_resource) > 200 THEN
    SIGNAL SQLSTATE '22001' SET MESSAGE_TEXT = 'tenure fence: the name of a resource has up to 200 characters';
  END IF;
  SET v_name = CAST(p_resource AS BINARY);
  -- Registers in one step, so that no token goes back even without a transaction around it; then judges.
  INSERT INTO tenure_fence (resource, domain, token) VALUES (v_name, p_domain, p_token)
  ON DUPLICATE KEY UPDATE token = IF(domain = p_domain, GREATEST(token, p_token), token);
  SELECT f.domain, f.token INTO v_domain, v_token FROM tenure_fence f WHERE f.resource = v_name FOR UPDATE;
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
  IN p_resource VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
  IN p_domain VARCHAR(200) CHARACTER SET ascii COLLATE ascii_bin,
  IN p_token BIGINT
)
MODIFIES SQL DATA
BEGIN
  DECLARE v_name VARBINARY(800);
  -- Outside of the strict mode, the server would cut the name off and take another one.
  IF CHAR_LENGTH(p_resource) > 200 THEN
    SIGNAL SQLSTATE '22001' SET MESSAGE_TEXT = 'tenure fence: the name of a resource has up to 200 characters';
  END IF;
  SET v_name = CAST(p_resource AS BINARY);
  UPDATE tenure_fence SET token = GREATEST(token, p_token) WHERE resource = v_name AND domain = p_domain;
END
--- migration
DROP PROCEDURE IF EXISTS tenure_fence_reset
--- migration
CREATE PROCEDURE tenure_fence_reset(
  IN p_resource VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
  IN p_domain VARCHAR(200) CHARACTER SET ascii COLLATE ascii_bin,
  IN p_token BIGINT
)
MODIFIES SQL DATA
BEGIN
  DECLARE v_name VARBINARY(800);
  -- Outside of the strict mode, the server would cut the name off and take another one.
  IF CHAR_LENGTH(p_resource) > 200 THEN
    SIGNAL SQLSTATE '22001' SET MESSAGE_TEXT = 'tenure fence: the name of a resource has up to 200 characters';
  END IF;
  SET v_name = CAST(p_resource AS BINARY);
  INSERT INTO tenure_fence (resource, domain, token) VALUES (v_name, p_domain, p_token)
  ON DUPLICATE KEY UPDATE domain = VALUES(domain), token = VALUES(token);
END
--- check
CALL tenure_fence_check(?, ?, ?)
--- show
SELECT domain, token FROM tenure_fence WHERE resource = CAST(CONVERT(? USING utf8mb4) AS BINARY)
--- raise
CALL tenure_fence_raise(?, ?, ?)
--- reset
CALL tenure_fence_reset(?, ?, ?)
