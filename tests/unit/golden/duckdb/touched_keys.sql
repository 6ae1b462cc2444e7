SELECT DISTINCT k0, k1
FROM (
SELECT "user_id" AS k0, "shop" AS k1, epoch_us("happened") AS ts, coalesce(epoch_us("written"), epoch_us("happened")) AS created, asof_row AS arrived, coalesce(epoch_us("written"), epoch_us("happened")) AS known, asof_row AS source_row
FROM asof_source_0
WHERE "happened" IS NOT NULL AND "user_id" IS NOT NULL AND "shop" IS NOT NULL AND "happened" <= make_timestamptz(2000)
)
WHERE ts <= 2000 AND (known >= 1000 OR ts >= 1500)
ORDER BY k0 < 0, k0, strlen(k1), k1
