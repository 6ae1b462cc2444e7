SELECT DISTINCT k0, k1
FROM (
SELECT "user_id" AS k0, "shop" AS k1, epoch_us("happened") AS ts, CASE WHEN "written" BETWEEN make_timestamptz(-62135596800000000) AND make_timestamptz(253402300799999999) THEN epoch_us("written") ELSE epoch_us("happened") END AS created, asof_row AS arrived, CASE WHEN "written" BETWEEN make_timestamptz(-62135596800000000) AND make_timestamptz(253402300799999999) THEN epoch_us("written") ELSE epoch_us("happened") END AS known, asof_row AS source_row
FROM asof_source_0
WHERE "happened" BETWEEN make_timestamptz(-62135596800000000) AND make_timestamptz(253402300799999999) AND "user_id" IS NOT NULL AND "shop" IS NOT NULL AND "happened" <= make_timestamptz(2000)
)
WHERE ts <= 2000 AND (known >= 1000 OR ts >= 1500)
ORDER BY k0 < 0, k0, strlen(k1), k1
