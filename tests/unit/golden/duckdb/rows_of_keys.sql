SELECT k0, k1, ts, created AS created, arrived AS arrived, c0 AS "own_user_id", c1 AS "own_shop", c2 AS "own_amount", c3 AS "own_happened", c4 AS "own_written"
FROM (
SELECT "user_id" AS k0, "shop" AS k1, epoch_us("happened") AS ts, coalesce(epoch_us("written"), epoch_us("happened")) AS created, asof_row AS arrived, asof_row AS source_row, CASE WHEN "user_id" IS NULL THEN NULL WHEN TRY_CAST("user_id" AS BIGINT) IS NULL THEN CAST(error('asof: column ''user_id'' of source ''orders'' holds ' || left(CAST("user_id" AS VARCHAR), 80) || ', which is no Int64, as it is declared') AS BIGINT) ELSE TRY_CAST("user_id" AS BIGINT) END AS c0, "shop" AS c1, CASE WHEN "amount" IS NULL OR isnan("amount") THEN NULL WHEN "amount" = trunc("amount") AND abs("amount") <= 9007199254740992 THEN coalesce(TRY_CAST("amount" AS BIGINT), CAST(error('asof: column ''amount'' of source ''orders'' holds ' || left(CAST("amount" AS VARCHAR), 80) || ', which is no Int64, as it is declared') AS BIGINT)) ELSE CAST(error('asof: column ''amount'' of source ''orders'' holds ' || left(CAST("amount" AS VARCHAR), 80) || ', which is no Int64, as it is declared') AS BIGINT) END AS c2, "happened" AS c3, "written" AS c4
FROM asof_source_0
WHERE "happened" IS NOT NULL AND "user_id" IS NOT NULL AND "shop" IS NOT NULL AND "happened" <= make_timestamptz(2000)
)
WHERE ts <= 2000 AND (k0, k1) IN (SELECT (k0, k1) FROM asof__wanted)
ORDER BY k0, k1, ts, arrived
