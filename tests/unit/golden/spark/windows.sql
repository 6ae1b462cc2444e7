SELECT asof_s.`user_id` AS `user_id`, asof_s.`event_timestamp` AS `event_timestamp`, asof_p0.o0 AS `windows__n_1h`, asof_p0.o1 AS `windows__sum_1d`, asof_p0.o2 AS `windows__last_ever`, asof_p0.o3 AS `windows__session_views`, asof_p0.o4 AS `windows__session_max`
FROM asof_spine AS asof_s
JOIN (
SELECT asof_m.n AS n, CASE WHEN asof_m.k0 IS NOT NULL AND asof_m.ts IS NOT NULL THEN coalesce((coalesce(asof_m.count_v0, 0) - coalesce(asof_m.count_v0_3600000000_300000000, 0)), 0) END AS o0, CASE WHEN (coalesce(asof_m.count_v1, 0) - coalesce(asof_m.count_v1_86400000000_3600000000, 0)) > 0 THEN try_cast((coalesce(asof_m.sum_v1, 0) - coalesce(asof_m.sum_v1_86400000000_3600000000, 0)) AS bigint) END AS o1, CASE WHEN asof_m.count_v2 > 0 THEN asof_v0.value END AS o2, CASE WHEN asof_m.k0 IS NOT NULL AND asof_m.ts IS NOT NULL THEN coalesce(CASE WHEN asof_m.ts - asof_r.r0 <= 3600000000 THEN asof_r.r1 END, 0) END AS o3, CASE WHEN asof_m.ts - asof_r.r0 <= 3600000000 THEN CASE WHEN asof_r.r3 > 0 THEN CAST('NaN' AS double) ELSE asof_r.r2 END END AS o4
FROM (
SELECT n, k0, max(CASE WHEN mark = 1 THEN ts END) AS ts, max(CASE WHEN mark = 1 THEN count_v0 END) AS count_v0, max(CASE WHEN mark = 1 THEN count_v1 END) AS count_v1, max(CASE WHEN mark = 1 THEN sum_v1 END) AS sum_v1, max(CASE WHEN mark = 1 THEN count_v2 END) AS count_v2, max(CASE WHEN mark = 1 THEN events END) AS events, max(CASE WHEN mark = -1 THEN count_v0 END) AS count_v0_3600000000_300000000, max(CASE WHEN mark = -2 THEN count_v1 END) AS count_v1_86400000000_3600000000, max(CASE WHEN mark = -2 THEN sum_v1 END) AS sum_v1_86400000000_3600000000
FROM (
SELECT k0, ts, mark, n, count(v0) OVER (PARTITION BY k0 ORDER BY ts, mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS count_v0, count(v1) OVER (PARTITION BY k0 ORDER BY ts, mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS count_v1, sum(CAST(v1 AS decimal(38,0))) OVER (PARTITION BY k0 ORDER BY ts, mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS sum_v1, count(v2) OVER (PARTITION BY k0 ORDER BY ts, mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS count_v2, count(CASE WHEN mark = 0 THEN 1 END) OVER (PARTITION BY k0 ORDER BY ts, mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS events
FROM (
SELECT k0, ts, 0 AS mark, CAST(NULL AS bigint) AS n, v0, v1, v2 FROM (
SELECT `user_id` AS k0, unix_micros(CAST(`happened` AS timestamp)) AS ts, TRUE AS v0, CASE WHEN (`page` = 'x') THEN `amount` END AS v1, `page` AS v2, CASE WHEN (`page` <> 'y') THEN TRUE END AS v3, (`price` * CAST('2' AS DOUBLE)) AS v4
FROM asof_source_1
WHERE `happened` BETWEEN CAST(timestamp_micros(-62135596800000000) AS timestamp_ntz) AND CAST(timestamp_micros(253402300799999999) AS timestamp_ntz) AND `user_id` IS NOT NULL AND (`partition` = -1) = (unix_micros(CAST(`happened` AS timestamp)) < 1704067200000000)
)
UNION ALL
SELECT k0, ts AS ts, 1 AS mark, n, NULL AS v0, NULL AS v1, NULL AS v2 FROM (
SELECT `user_id` AS k0, unix_micros(`event_timestamp`) AS t, unix_micros(`event_timestamp`) AS ts, asof_n AS n
FROM asof_spine
)
UNION ALL
SELECT k0, (ts - 3600000000) - pmod(ts - 3600000000, 300000000) AS ts, -1 AS mark, n, NULL AS v0, NULL AS v1, NULL AS v2 FROM (
SELECT `user_id` AS k0, unix_micros(`event_timestamp`) AS t, unix_micros(`event_timestamp`) AS ts, asof_n AS n
FROM asof_spine
)
UNION ALL
SELECT k0, (ts - 86400000000) - pmod(ts - 86400000000, 3600000000) AS ts, -2 AS mark, n, NULL AS v0, NULL AS v1, NULL AS v2 FROM (
SELECT `user_id` AS k0, unix_micros(`event_timestamp`) AS t, unix_micros(`event_timestamp`) AS ts, asof_n AS n
FROM asof_spine
)
)
)
WHERE mark <> 0
GROUP BY n, k0
) AS asof_m
LEFT JOIN (
SELECT k0, place, ts AS r0, count(v3) OVER (PARTITION BY k0, start_3600000000 ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS r1, max(CASE WHEN NOT isnan(v4) THEN v4 END) OVER (PARTITION BY k0, start_3600000000 ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS r2, count(CASE WHEN isnan(v4) THEN 1 END) OVER (PARTITION BY k0, start_3600000000 ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS r3
FROM (
SELECT *, max(begin_3600000000) OVER (PARTITION BY k0 ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS start_3600000000
FROM (
SELECT *, row_number() OVER (PARTITION BY k0 ORDER BY ts, era NULLS FIRST, arrived NULLS FIRST, part NULLS FIRST) AS place, CASE WHEN ts - lag(ts) OVER (PARTITION BY k0 ORDER BY ts, era NULLS FIRST, arrived NULLS FIRST, part NULLS FIRST) <= 3600000000 THEN NULL ELSE ts END AS begin_3600000000
FROM (
SELECT `user_id` AS k0, unix_micros(CAST(`happened` AS timestamp)) AS ts, CASE WHEN coalesce(`asof_origin_partition`, `partition`) < 0 THEN 4503599628000000 ELSE CAST(coalesce(`asof_origin_partition`, `partition`) - coalesce(`asof_origin_partition`, `partition`) % 1000000 + 2000000 AS bigint) * 4503599628 END + coalesce(`asof_pushed_at`, 0) AS era, CASE WHEN `asof_pushed_at` IS NULL THEN coalesce(`asof_origin_offset`, `offset`) ELSE coalesce(`asof_origin_partition`, `partition`) END AS arrived, CASE WHEN `asof_pushed_at` IS NULL THEN coalesce(`asof_origin_partition`, `partition`) ELSE coalesce(`asof_origin_offset`, `offset`) END AS part, TRUE AS v0, CASE WHEN (`page` = 'x') THEN `amount` END AS v1, `page` AS v2, CASE WHEN (`page` <> 'y') THEN TRUE END AS v3, (`price` * CAST('2' AS DOUBLE)) AS v4
FROM asof_source_1
WHERE `happened` BETWEEN CAST(timestamp_micros(-62135596800000000) AS timestamp_ntz) AND CAST(timestamp_micros(253402300799999999) AS timestamp_ntz) AND `user_id` IS NOT NULL AND (`partition` = -1) = (unix_micros(CAST(`happened` AS timestamp)) < 1704067200000000)
)
)
)
) AS asof_r ON asof_m.k0 = asof_r.k0 AND asof_m.events = asof_r.place
LEFT JOIN (
SELECT k0, row_number() OVER (PARTITION BY k0 ORDER BY ts, era NULLS FIRST, arrived NULLS FIRST, part NULLS FIRST) AS number, v2 AS value
FROM (
SELECT `user_id` AS k0, unix_micros(CAST(`happened` AS timestamp)) AS ts, CASE WHEN coalesce(`asof_origin_partition`, `partition`) < 0 THEN 4503599628000000 ELSE CAST(coalesce(`asof_origin_partition`, `partition`) - coalesce(`asof_origin_partition`, `partition`) % 1000000 + 2000000 AS bigint) * 4503599628 END + coalesce(`asof_pushed_at`, 0) AS era, CASE WHEN `asof_pushed_at` IS NULL THEN coalesce(`asof_origin_offset`, `offset`) ELSE coalesce(`asof_origin_partition`, `partition`) END AS arrived, CASE WHEN `asof_pushed_at` IS NULL THEN coalesce(`asof_origin_partition`, `partition`) ELSE coalesce(`asof_origin_offset`, `offset`) END AS part, TRUE AS v0, CASE WHEN (`page` = 'x') THEN `amount` END AS v1, `page` AS v2, CASE WHEN (`page` <> 'y') THEN TRUE END AS v3, (`price` * CAST('2' AS DOUBLE)) AS v4
FROM asof_source_1
WHERE `happened` BETWEEN CAST(timestamp_micros(-62135596800000000) AS timestamp_ntz) AND CAST(timestamp_micros(253402300799999999) AS timestamp_ntz) AND `user_id` IS NOT NULL AND (`partition` = -1) = (unix_micros(CAST(`happened` AS timestamp)) < 1704067200000000)
)
WHERE v2 IS NOT NULL
) AS asof_v0 ON asof_m.k0 = asof_v0.k0 AND asof_v0.number = asof_m.count_v2
) AS asof_p0 ON asof_p0.n = asof_s.asof_n
ORDER BY asof_s.asof_n
