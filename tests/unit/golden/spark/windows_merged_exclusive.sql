SELECT asof_s.`user_id` AS `user_id`, asof_s.`event_timestamp` AS `event_timestamp`, asof_p0.o0 AS `merged__max`, asof_p0.o1 AS `merged__std`
FROM asof_spine AS asof_s
JOIN (
SELECT asof_m.n AS n, CASE WHEN (coalesce(asof_b0_suffix.x1, 0) + coalesce(asof_b0_prefix.x1, 0)) > 0 THEN CAST('NaN' AS double) ELSE CASE WHEN asof_b0_suffix.x0 IS NULL THEN asof_b0_prefix.x0 WHEN asof_b0_prefix.x0 IS NULL THEN asof_b0_suffix.x0 WHEN asof_b0_suffix.x0 >= asof_b0_prefix.x0 THEN asof_b0_suffix.x0 ELSE asof_b0_prefix.x0 END END AS o0, CASE WHEN (coalesce(asof_b0_suffix.x6, 0) + coalesce(asof_b0_prefix.x6, 0)) < 2 THEN NULL WHEN (coalesce(asof_b0_suffix.x2, 0) + coalesce(asof_b0_prefix.x2, 0)) > 0 THEN CAST('NaN' AS double) ELSE sqrt(CASE WHEN (CAST(coalesce(asof_b0_suffix.x3, 0) AS double) + CAST(coalesce(asof_b0_prefix.x3, 0) AS double)) > 1 THEN (coalesce(asof_b0_suffix.x5 * CAST(coalesce(asof_b0_suffix.x3, 0) AS double), 0) + coalesce(asof_b0_prefix.x5 * CAST(coalesce(asof_b0_prefix.x3, 0) AS double), 0) + coalesce((asof_b0_suffix.x4 - asof_b0_prefix.x4) * (asof_b0_suffix.x4 - asof_b0_prefix.x4) * CAST(coalesce(asof_b0_suffix.x3, 0) AS double) * CAST(coalesce(asof_b0_prefix.x3, 0) AS double) / (CAST(coalesce(asof_b0_suffix.x3, 0) AS double) + CAST(coalesce(asof_b0_prefix.x3, 0) AS double)), 0)) / ((CAST(coalesce(asof_b0_suffix.x3, 0) AS double) + CAST(coalesce(asof_b0_prefix.x3, 0) AS double)) - 1) END) END AS o1
FROM (
SELECT `user_id` AS k0, unix_micros(`event_timestamp`) AS t, (unix_micros(`event_timestamp`) - 1) AS ts, asof_n AS n
FROM asof_spine
) AS asof_m
LEFT JOIN (
SELECT n, x0, x1, x2, x3, x4, x5, x6
FROM (
SELECT n, max(CASE WHEN NOT isnan(v0) THEN v0 END) OVER (PARTITION BY k0, block ORDER BY ts, mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x0, count(CASE WHEN isnan(v0) THEN 1 END) OVER (PARTITION BY k0, block ORDER BY ts, mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x1, count(CASE WHEN abs(CAST(v0 AS double)) > 1e150D THEN 1 END) OVER (PARTITION BY k0, block ORDER BY ts, mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x2, count(CASE WHEN abs(CAST(v0 AS double)) <= 1e150D THEN CAST(v0 AS double) END) OVER (PARTITION BY k0, block ORDER BY ts, mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x3, avg(CASE WHEN abs(CAST(v0 AS double)) <= 1e150D THEN CAST(v0 AS double) END) OVER (PARTITION BY k0, block ORDER BY ts, mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x4, var_pop(CASE WHEN abs(CAST(v0 AS double)) <= 1e150D THEN CAST(v0 AS double) END) OVER (PARTITION BY k0, block ORDER BY ts, mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x5, count(v0) OVER (PARTITION BY k0, block ORDER BY ts, mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x6
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
)
)
)
)
WHERE n IS NOT NULL
) AS asof_b0_prefix ON asof_b0_prefix.n = asof_m.n
LEFT JOIN (
SELECT n, x0, x1, x2, x3, x4, x5, x6
FROM (
SELECT n, max(CASE WHEN NOT isnan(v0) THEN v0 END) OVER (PARTITION BY k0, block ORDER BY until_end, -mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x0, count(CASE WHEN isnan(v0) THEN 1 END) OVER (PARTITION BY k0, block ORDER BY until_end, -mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x1, count(CASE WHEN abs(CAST(v0 AS double)) > 1e150D THEN 1 END) OVER (PARTITION BY k0, block ORDER BY until_end, -mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x2, count(CASE WHEN abs(CAST(v0 AS double)) <= 1e150D THEN CAST(v0 AS double) END) OVER (PARTITION BY k0, block ORDER BY until_end, -mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x3, avg(CASE WHEN abs(CAST(v0 AS double)) <= 1e150D THEN CAST(v0 AS double) END) OVER (PARTITION BY k0, block ORDER BY until_end, -mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x4, var_pop(CASE WHEN abs(CAST(v0 AS double)) <= 1e150D THEN CAST(v0 AS double) END) OVER (PARTITION BY k0, block ORDER BY until_end, -mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x5, count(v0) OVER (PARTITION BY k0, block ORDER BY until_end, -mark ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS x6
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
SELECT k0, (ts + 1 - 604800000000) - pmod(ts + 1 - 604800000000, 3600000000) AS ts, -2 AS mark, n AS n, NULL AS v0 FROM (
SELECT `user_id` AS k0, unix_micros(`event_timestamp`) AS t, (unix_micros(`event_timestamp`) - 1) AS ts, asof_n AS n
FROM asof_spine
) WHERE pmod((ts + 1 - 604800000000) - pmod(ts + 1 - 604800000000, 3600000000), 608400000000) <> 0
)
)
)
)
WHERE n IS NOT NULL
) AS asof_b0_suffix ON asof_b0_suffix.n = asof_m.n
) AS asof_p0 ON asof_p0.n = asof_s.asof_n
ORDER BY asof_s.asof_n
