SELECT asof_s.`user_id` AS `user_id`, asof_s.`event_timestamp` AS `event_timestamp`, asof_p0.o0 AS `latest__amount`, coalesce(asof_p0.o1, CAST('0.5' AS double)) AS `latest__price`, asof_p0.o2 AS `latest__page`
FROM asof_spine AS asof_s
JOIN (
SELECT n, CASE WHEN found.ts IS NOT NULL THEN found.o0 END AS o0, CASE WHEN found.ts IS NOT NULL THEN found.o1 END AS o1, CASE WHEN found.ts IS NOT NULL THEN found.o2 END AS o2
FROM (
SELECT ts, n, last(CASE WHEN side = 0 THEN named_struct('ts', ts, 'o0', o0, 'o1', o1, 'o2', o2) END) IGNORE NULLS
  OVER (PARTITION BY k0 ORDER BY ts, side, created NULLS FIRST, tie0 NULLS FIRST, tie1 NULLS FIRST, tie2 NULLS FIRST ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS found
FROM (
SELECT k0, ts, 0 AS side, CAST(NULL AS bigint) AS n, created, tie0, tie1, tie2, o0, o1, o2 FROM (
SELECT `user_id` AS k0, unix_micros(CAST(`happened` AS timestamp)) AS ts, CASE WHEN `written` BETWEEN timestamp_micros(-62135596800000000) AND timestamp_micros(253402300799999999) THEN unix_micros(`written`) ELSE unix_micros(CAST(`happened` AS timestamp)) END AS created, `amount` AS tie0, CASE WHEN isnan(`price`) THEN CAST('NaN' AS double) WHEN `price` = 0 THEN CAST('0' AS double) ELSE `price` END AS tie1, `page` AS tie2, `amount` AS o0, `price` AS o1, `page` AS o2
FROM asof_source_0
WHERE `happened` BETWEEN CAST(timestamp_micros(-62135596800000000) AS timestamp_ntz) AND CAST(timestamp_micros(253402300799999999) AS timestamp_ntz) AND `user_id` IS NOT NULL
)
UNION ALL
SELECT k0, ts, 1 AS side, n, NULL AS created, NULL AS tie0, NULL AS tie1, NULL AS tie2, NULL AS o0, NULL AS o1, NULL AS o2 FROM (
SELECT `user_id` AS k0, unix_micros(`event_timestamp`) AS t, unix_micros(`event_timestamp`) AS ts, asof_n AS n
FROM asof_spine
)
)
)
WHERE n IS NOT NULL
) AS asof_p0 ON asof_p0.n = asof_s.asof_n
ORDER BY asof_s.asof_n
