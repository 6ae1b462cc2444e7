SELECT `user_id` AS `user_id`, `event_timestamp` AS `event_timestamp` FROM (
SELECT DISTINCT CAST(k0 AS bigint) AS `user_id`, timestamp_micros(ts) AS `event_timestamp` FROM (
SELECT `user_id` AS k0, unix_micros(CAST(`happened` AS timestamp)) AS ts, CASE WHEN `written` BETWEEN timestamp_micros(-62135596800000000) AND timestamp_micros(253402300799999999) THEN unix_micros(`written`) ELSE unix_micros(CAST(`happened` AS timestamp)) END AS created
FROM asof_source_0
WHERE `happened` BETWEEN CAST(timestamp_micros(-62135596800000000) AS timestamp_ntz) AND CAST(timestamp_micros(253402300799999999) AS timestamp_ntz) AND `user_id` IS NOT NULL AND `happened` >= CAST(timestamp_micros(1704067200000000) AS timestamp_ntz) AND `happened` <= CAST(timestamp_micros(1706745600000000) AS timestamp_ntz)
) WHERE ts >= 1704067200000000 AND ts < 1706745600000000
UNION
SELECT DISTINCT CAST(k0 AS bigint) AS `user_id`, timestamp_micros(ts) AS `event_timestamp` FROM (
SELECT `user_id` AS k0, unix_micros(CAST(`happened` AS timestamp)) AS ts, CASE WHEN coalesce(`asof_origin_partition`, `partition`) < 0 THEN 4503599628000000 ELSE CAST(coalesce(`asof_origin_partition`, `partition`) - coalesce(`asof_origin_partition`, `partition`) % 1000000 + 2000000 AS bigint) * 4503599628 END + coalesce(`asof_pushed_at`, 0) AS era, CASE WHEN `asof_pushed_at` IS NULL THEN coalesce(`asof_origin_offset`, `offset`) ELSE coalesce(`asof_origin_partition`, `partition`) END AS arrived, CASE WHEN `asof_pushed_at` IS NULL THEN coalesce(`asof_origin_partition`, `partition`) ELSE coalesce(`asof_origin_offset`, `offset`) END AS part
FROM asof_source_1
WHERE `happened` BETWEEN CAST(timestamp_micros(-62135596800000000) AS timestamp_ntz) AND CAST(timestamp_micros(253402300799999999) AS timestamp_ntz) AND `user_id` IS NOT NULL AND `happened` >= CAST(timestamp_micros(1704067200000000) AS timestamp_ntz) AND `happened` <= CAST(timestamp_micros(1706745600000000) AS timestamp_ntz) AND (`partition` = -1) = (unix_micros(CAST(`happened` AS timestamp)) < 1704067200000000)
) WHERE ts >= 1704067200000000 AND ts < 1706745600000000
)
ORDER BY `event_timestamp`, `user_id` NULLS FIRST
