SELECT k0, k1, ts, created AS created, 0 AS arrived, f0
FROM (
SELECT "user_id" AS k0, "shop" AS k1, epoch_us("happened") AS ts, CASE WHEN "written" BETWEEN make_timestamptz(-62135596800000000) AND make_timestamptz(253402300799999999) THEN epoch_us("written") ELSE epoch_us("happened") END AS created, CASE WHEN "amount" IS NULL OR isnan("amount") THEN NULL WHEN "amount" = trunc("amount") AND abs("amount") <= 9007199254740992 THEN coalesce(TRY_CAST("amount" AS BIGINT), CAST(NULL AS BIGINT)) ELSE CAST(NULL AS BIGINT) END AS tie0, CASE WHEN "written" BETWEEN make_timestamptz(-62135596800000000) AND make_timestamptz(253402300799999999) THEN epoch_us("written") ELSE epoch_us("happened") END AS known, asof_row AS source_row, CASE WHEN "amount" IS NULL OR isnan("amount") THEN NULL WHEN "amount" = trunc("amount") AND abs("amount") <= 9007199254740992 THEN coalesce(TRY_CAST("amount" AS BIGINT), CAST(error('asof: column ''amount'' of source ''orders'' holds ' || left(CAST("amount" AS VARCHAR), 80) || ', which is no Int64, as it is declared') AS BIGINT)) ELSE CAST(error('asof: column ''amount'' of source ''orders'' holds ' || left(CAST("amount" AS VARCHAR), 80) || ', which is no Int64, as it is declared') AS BIGINT) END AS f0
FROM asof_source_0
WHERE "happened" BETWEEN make_timestamptz(-62135596800000000) AND make_timestamptz(253402300799999999) AND "user_id" IS NOT NULL AND "shop" IS NOT NULL AND "happened" >= make_timestamptz(1000) AND "happened" <= make_timestamptz(2000)
)
WHERE ts <= 2000 AND ts >= 1000
QUALIFY row_number() OVER (PARTITION BY k0, k1 ORDER BY ts DESC NULLS LAST, created DESC NULLS LAST, tie0 DESC NULLS LAST) = 1
ORDER BY k0 < 0, k0, strlen(k1), k1
