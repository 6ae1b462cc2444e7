SELECT asof_s.`user_id` AS `user_id`, asof_s.`event_timestamp` AS `event_timestamp`, asof_p0.o0 AS `latest__amount`, coalesce(asof_p0.o1, CAST('0.5' AS double)) AS `latest__price`, asof_p0.o2 AS `latest__page`
FROM asof_spine AS asof_s
JOIN (
SELECT asof_s.n AS n, CASE WHEN asof_r.ts >= asof_s.ts - 86400000000 THEN asof_r.o0 END AS o0, CASE WHEN asof_r.ts >= asof_s.ts - 86400000000 THEN asof_r.o1 END AS o1, CASE WHEN asof_r.ts >= asof_s.ts - 86400000000 THEN asof_r.o2 END AS o2
FROM (
SELECT k0, ts, n, place
FROM (
SELECT k0, ts, n, count(CASE WHEN side = 0 THEN 1 END)
  OVER (PARTITION BY k0 ORDER BY ts, side ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS place
FROM (
SELECT k0, ts, 0 AS side, CAST(NULL AS bigint) AS n FROM (
SELECT `user_id` AS k0, unix_micros(CAST(`happened` AS timestamp)) AS ts
FROM asof_source_0
WHERE `happened` BETWEEN CAST(timestamp_micros(-62135596800000000) AS timestamp_ntz) AND CAST(timestamp_micros(253402300799999999) AS timestamp_ntz) AND `user_id` IS NOT NULL AND `happened` >= CAST(timestamp_micros(1703980500000000) AS timestamp_ntz) AND `happened` <= CAST(timestamp_micros(1706745600000000) AS timestamp_ntz) AND (`user_id`) IN (SELECT `user_id` FROM asof_spine)
)
UNION ALL
SELECT k0, ts, 1 AS side, n FROM (
SELECT `user_id` AS k0, unix_micros(`event_timestamp`) AS t, (unix_micros(`event_timestamp`) - 300000000) AS ts, asof_n AS n
FROM asof_spine
)
)
)
WHERE n IS NOT NULL
) AS asof_s
LEFT JOIN (
SELECT k0, ts, o0, o1, o2, row_number() OVER (PARTITION BY k0 ORDER BY ts NULLS FIRST, created NULLS FIRST, tie0 NULLS FIRST, tie1 NULLS FIRST, tie2 NULLS FIRST) AS place FROM (
SELECT `user_id` AS k0, unix_micros(CAST(`happened` AS timestamp)) AS ts, CASE WHEN `written` BETWEEN timestamp_micros(-62135596800000000) AND timestamp_micros(253402300799999999) THEN unix_micros(`written`) ELSE unix_micros(CAST(`happened` AS timestamp)) END AS created, `amount` AS tie0, CASE WHEN isnan(`price`) THEN CAST('NaN' AS double) WHEN `price` = 0 THEN CAST('0' AS double) ELSE `price` END AS tie1, `page` AS tie2, `amount` AS o0, `price` AS o1, `page` AS o2
FROM asof_source_0
WHERE `happened` BETWEEN CAST(timestamp_micros(-62135596800000000) AS timestamp_ntz) AND CAST(timestamp_micros(253402300799999999) AS timestamp_ntz) AND `user_id` IS NOT NULL AND `happened` >= CAST(timestamp_micros(1703980500000000) AS timestamp_ntz) AND `happened` <= CAST(timestamp_micros(1706745600000000) AS timestamp_ntz) AND (`user_id`) IN (SELECT `user_id` FROM asof_spine)
)
) AS asof_r ON asof_s.k0 = asof_r.k0 AND asof_s.place = asof_r.place
) AS asof_p0 ON asof_p0.n = asof_s.asof_n
ORDER BY asof_s.asof_n
