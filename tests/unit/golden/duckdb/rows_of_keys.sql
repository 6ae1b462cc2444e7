SELECT k0, k1, ts, created AS created, arrived AS arrived, c0 AS "own_user_id", c1 AS "own_shop", c2 AS "own_amount", c3 AS "own_happened", c4 AS "own_written"
FROM (
SELECT "user_id" AS k0, "shop" AS k1, epoch_us("happened") AS ts, coalesce(epoch_us("written"), epoch_us("happened")) AS created, asof_row AS arrived, asof_row AS source_row, CAST("user_id" AS BIGINT) AS c0, "shop" AS c1, CASE WHEN isnan("amount") OR "amount" IS NULL THEN NULL WHEN "amount" = trunc("amount") THEN CAST("amount" AS BIGINT) ELSE CAST(error('asof: column ''amount'' of source ''orders'' holds a fraction, and is declared Int64') AS BIGINT) END AS c2, "happened" AS c3, "written" AS c4
FROM asof_source_0
WHERE "happened" IS NOT NULL AND "user_id" IS NOT NULL AND "shop" IS NOT NULL AND "happened" <= make_timestamptz(2000)
)
WHERE ts <= 2000 AND (k0, k1) IN (SELECT (k0, k1) FROM asof_wanted)
ORDER BY k0, k1, ts, arrived
