SELECT DISTINCT CAST(k0 AS bigint) AS k0
FROM (
SELECT `user_id` AS k0, unix_micros(CAST(`happened` AS timestamp)) AS ts, CASE WHEN `written` BETWEEN timestamp_micros(-62135596800000000) AND timestamp_micros(253402300799999999) THEN unix_micros(`written`) ELSE unix_micros(CAST(`happened` AS timestamp)) END AS created, `amount` AS tie0, CASE WHEN isnan(`price`) THEN CAST('NaN' AS double) WHEN `price` = 0 THEN CAST('0' AS double) ELSE `price` END AS tie1, `page` AS tie2, CASE WHEN `written` BETWEEN timestamp_micros(-62135596800000000) AND timestamp_micros(253402300799999999) THEN unix_micros(`written`) ELSE unix_micros(CAST(`happened` AS timestamp)) END AS known
FROM asof_source_0
WHERE `happened` BETWEEN CAST(timestamp_micros(-62135596800000000) AS timestamp_ntz) AND CAST(timestamp_micros(253402300799999999) AS timestamp_ntz) AND `user_id` IS NOT NULL AND `happened` <= CAST(timestamp_micros(1706745600000000) AS timestamp_ntz)
)
WHERE ts <= 1706745600000000 AND (known >= 1704067200000000 OR ts >= 1704000000000000)
ORDER BY k0 < 0, k0
