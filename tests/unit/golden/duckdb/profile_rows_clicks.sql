SELECT f0, f1, ts AS asof_ts
FROM (
SELECT "user_id" AS k0, ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 AS ts, asof_row AS source_row, "amount" AS f0, "page" AS f1
FROM asof_source_1
WHERE "happened" IS NOT NULL AND "user_id" IS NOT NULL AND ("partition" = -1) = (((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 < 1704067200000000)
) AS asof_q
WHERE ts <= 1706745600000000 AND ts >= 1704067200000000
