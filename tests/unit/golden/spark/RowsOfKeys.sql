SELECT CAST(k0 AS bigint) AS k0, ts, ts AS created, CAST(row_number() OVER (PARTITION BY k0 ORDER BY ts, era NULLS FIRST, arrived NULLS FIRST, part NULLS FIRST) AS bigint) AS arrived, c0 AS `own_user_id`, c1 AS `own_amount`, c2 AS `own_price`, c3 AS `own_page`, c4 AS `own_happened`
FROM (
SELECT `user_id` AS k0, unix_micros(CAST(`happened` AS timestamp)) AS ts, CASE WHEN coalesce(`asof_origin_partition`, `partition`) < 0 THEN 4503599628000000 ELSE CAST(coalesce(`asof_origin_partition`, `partition`) - coalesce(`asof_origin_partition`, `partition`) % 1000000 + 2000000 AS bigint) * 4503599628 END + coalesce(`asof_pushed_at`, 0) AS era, CASE WHEN `asof_pushed_at` IS NULL THEN coalesce(`asof_origin_offset`, `offset`) ELSE coalesce(`asof_origin_partition`, `partition`) END AS arrived, CASE WHEN `asof_pushed_at` IS NULL THEN coalesce(`asof_origin_partition`, `partition`) ELSE coalesce(`asof_origin_offset`, `offset`) END AS part, CAST(`user_id` AS bigint) AS c0, `amount` AS c1, `price` AS c2, `page` AS c3, CAST(`happened` AS timestamp) AS c4
FROM asof_source_1
WHERE `happened` BETWEEN CAST(timestamp_micros(-62135596800000000) AS timestamp_ntz) AND CAST(timestamp_micros(253402300799999999) AS timestamp_ntz) AND `user_id` IS NOT NULL AND `happened` <= CAST(timestamp_micros(1706745600000000) AS timestamp_ntz) AND (`partition` = -1) = (unix_micros(CAST(`happened` AS timestamp)) < 1704067200000000)
)
WHERE ts <= 1706745600000000 AND (k0) IN (SELECT k0 FROM asof__wanted)
ORDER BY k0, ts, arrived
