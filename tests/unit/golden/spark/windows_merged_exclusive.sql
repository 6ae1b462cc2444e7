SELECT asof_s.`user_id` AS `user_id`, asof_s.`event_timestamp` AS `event_timestamp`, asof_p0.o0 AS `merged__max`, asof_p0.o1 AS `merged__std`
FROM asof_spine AS asof_s
JOIN (
SELECT asof_m.n AS n, CASE WHEN (coalesce(asof_b0.x1_suffix, 0) + coalesce(asof_b0.x1_prefix, 0)) > 0 THEN CAST('NaN' AS double) ELSE CASE WHEN asof_b0.x0_suffix IS NULL THEN asof_b0.x0_prefix WHEN asof_b0.x0_prefix IS NULL THEN asof_b0.x0_suffix WHEN asof_b0.x0_suffix >= asof_b0.x0_prefix THEN asof_b0.x0_suffix ELSE asof_b0.x0_prefix END END AS o0, CASE WHEN (coalesce(asof_b0.x6_suffix, 0) + coalesce(asof_b0.x6_prefix, 0)) < 2 THEN NULL WHEN (coalesce(asof_b0.x2_suffix, 0) + coalesce(asof_b0.x2_prefix, 0)) > 0 THEN CAST('NaN' AS double) ELSE sqrt(CASE WHEN (CAST(coalesce(asof_b0.x3_suffix, 0) AS double) + CAST(coalesce(asof_b0.x3_prefix, 0) AS double)) > 1 THEN (coalesce(asof_b0.x5_suffix * CAST(coalesce(asof_b0.x3_suffix, 0) AS double), 0) + coalesce(asof_b0.x5_prefix * CAST(coalesce(asof_b0.x3_prefix, 0) AS double), 0) + coalesce((asof_b0.x4_suffix - asof_b0.x4_prefix) * (asof_b0.x4_suffix - asof_b0.x4_prefix) * CAST(coalesce(asof_b0.x3_suffix, 0) AS double) * CAST(coalesce(asof_b0.x3_prefix, 0) AS double) / (CAST(coalesce(asof_b0.x3_suffix, 0) AS double) + CAST(coalesce(asof_b0.x3_prefix, 0) AS double)), 0)) / ((CAST(coalesce(asof_b0.x3_suffix, 0) AS double) + CAST(coalesce(asof_b0.x3_prefix, 0) AS double)) - 1) END) END AS o1
FROM (
SELECT `user_id` AS k0, unix_micros(`event_timestamp`) AS t, (unix_micros(`event_timestamp`) - 1) AS ts, asof_n AS n
FROM asof_spine
) AS asof_m
LEFT JOIN (
SELECT n, max(CASE WHEN mark = -1 THEN x0_prefix END) AS x0_prefix, max(CASE WHEN mark = -2 THEN x0_suffix END) AS x0_suffix, max(CASE WHEN mark = -1 THEN x1_prefix END) AS x1_prefix, max(CASE WHEN mark = -2 THEN x1_suffix END) AS x1_suffix, max(CASE WHEN mark = -1 THEN x2_prefix END) AS x2_prefix, max(CASE WHEN mark = -2 THEN x2_suffix END) AS x2_suffix, max(CASE WHEN mark = -1 THEN x3_prefix END) AS x3_prefix, max(CASE WHEN mark = -2 THEN x3_suffix END) AS x3_suffix, max(CASE WHEN mark = -1 THEN x4_prefix END) AS x4_prefix, max(CASE WHEN mark = -2 THEN x4_suffix END) AS x4_suffix, max(CASE WHEN mark = -1 THEN x5_prefix END) AS x5_prefix, max(CASE WHEN mark = -2 THEN x5_suffix END) AS x5_suffix, max(CASE WHEN mark = -1 THEN x6_prefix END) AS x6_prefix, max(CASE WHEN mark = -2 THEN x6_suffix END) AS x6_suffix
FROM (
SELECT n, mark, max(CASE WHEN NOT isnan(v0) THEN v0 END) OVER (PARTITION BY k0, block ORDER BY ts, mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x0_prefix, max(CASE WHEN NOT isnan(v0) THEN v0 END) OVER (PARTITION BY k0, block ORDER BY until_end, -mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x0_suffix, count(CASE WHEN isnan(v0) THEN 1 END) OVER (PARTITION BY k0, block ORDER BY ts, mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x1_prefix, count(CASE WHEN isnan(v0) THEN 1 END) OVER (PARTITION BY k0, block ORDER BY until_end, -mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x1_suffix, count(CASE WHEN abs(CAST(v0 AS double)) > 1e150D THEN 1 END) OVER (PARTITION BY k0, block ORDER BY ts, mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x2_prefix, count(CASE WHEN abs(CAST(v0 AS double)) > 1e150D THEN 1 END) OVER (PARTITION BY k0, block ORDER BY until_end, -mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x2_suffix, count(CASE WHEN abs(CAST(v0 AS double)) <= 1e150D THEN CAST(v0 AS double) END) OVER (PARTITION BY k0, block ORDER BY ts, mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x3_prefix, count(CASE WHEN abs(CAST(v0 AS double)) <= 1e150D THEN CAST(v0 AS double) END) OVER (PARTITION BY k0, block ORDER BY until_end, -mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x3_suffix, avg(CASE WHEN abs(CAST(v0 AS double)) <= 1e150D THEN CAST(v0 AS double) END) OVER (PARTITION BY k0, block ORDER BY ts, mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x4_prefix, avg(CASE WHEN abs(CAST(v0 AS double)) <= 1e150D THEN CAST(v0 AS double) END) OVER (PARTITION BY k0, block ORDER BY until_end, -mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x4_suffix, var_pop(CASE WHEN abs(CAST(v0 AS double)) <= 1e150D THEN CAST(v0 AS double) END) OVER (PARTITION BY k0, block ORDER BY ts, mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x5_prefix, var_pop(CASE WHEN abs(CAST(v0 AS double)) <= 1e150D THEN CAST(v0 AS double) END) OVER (PARTITION BY k0, block ORDER BY until_end, -mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x5_suffix, count(v0) OVER (PARTITION BY k0, block ORDER BY ts, mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x6_prefix, count(v0) OVER (PARTITION BY k0, block ORDER BY until_end, -mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x6_suffix
FROM (
SELECT *, (block + 1) * 608400000000 - ts AS until_end
FROM (
SELECT *, ((ts) - pmod(ts, 608400000000)) DIV 608400000000 AS block
FROM (
SELECT k0, ts AS ts, 0 AS mark, CAST(NULL AS bigint) AS n, v0 AS v0 FROM (
SELECT `user_id` AS k0, unix_micros(CAST(`happened` AS timestamp)) AS ts, `price` AS v0
FROM asof_source_0
WHERE `happened` BETWEEN CAST(timestamp_micros(-62135596800000000) AS timestamp_ntz) AND CAST(timestamp_micros(253402300799999999) AS timestamp_ntz) AND `user_id` IS NOT NULL AND `happened` >= CAST(timestamp_micros(1703458799999999) AS timestamp_ntz) AND `happened` <= CAST(timestamp_micros(1706745600000000) AS timestamp_ntz) AND (`user_id`) IN (SELECT `user_id` FROM asof_spine)
)
UNION ALL
SELECT k0, ts + 1 AS ts, -1 AS mark, n AS n, NULL AS v0 FROM (
SELECT `user_id` AS k0, unix_micros(`event_timestamp`) AS t, (unix_micros(`event_timestamp`) - 1) AS ts, asof_n AS n
FROM asof_spine
)
UNION ALL
SELECT k0, (ts + 1 - 604800000000) - pmod(ts + 1 - 604800000000, 3600000000) AS ts, -2 AS mark, n AS n, NULL AS v0 FROM (
SELECT `user_id` AS k0, unix_micros(`event_timestamp`) AS t, (unix_micros(`event_timestamp`) - 1) AS ts, asof_n AS n
FROM asof_spine
) WHERE pmod((ts + 1 - 604800000000) - pmod(ts + 1 - 604800000000, 3600000000), 608400000000) <> 0
)
)
)
)
WHERE mark <> 0
GROUP BY n
) AS asof_b0 ON asof_b0.n = asof_m.n
) AS asof_p0 ON asof_p0.n = asof_s.asof_n
ORDER BY asof_s.asof_n
