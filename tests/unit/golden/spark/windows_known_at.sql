SELECT asof_s.`user_id` AS `user_id`, asof_s.`event_timestamp` AS `event_timestamp`, asof_p0.o0 AS `windows__n_1h`, asof_p0.o1 AS `windows__sum_1d`, asof_p0.o2 AS `windows__last_ever`, asof_p0.o3 AS `windows__session_views`, asof_p0.o4 AS `windows__session_max`
FROM asof_spine AS asof_s
JOIN (
SELECT asof_m.n AS n, CASE WHEN asof_m.k0 IS NOT NULL AND asof_m.ts IS NOT NULL THEN coalesce(asof_p.p0, 0) END AS o0, asof_p.p1 AS o1, asof_p.p2 AS o2, CASE WHEN asof_m.k0 IS NOT NULL AND asof_m.ts IS NOT NULL THEN coalesce(asof_p.p3, 0) END AS o3, asof_p.p4 AS o4
FROM (
SELECT `user_id` AS k0, unix_micros(`event_timestamp`) AS t, unix_micros(`event_timestamp`) AS ts, asof_n AS n
FROM asof_spine
) AS asof_m
LEFT JOIN (
SELECT n, count(CASE WHEN ts >= (moment - 3600000000) - pmod(moment - 3600000000, 300000000) THEN v0 END) AS p0, try_cast(sum(CAST(CASE WHEN ts >= (moment - 86400000000) - pmod(moment - 86400000000, 3600000000) THEN v1 END AS decimal(38,0))) AS bigint) AS p1, max_by(v2, CASE WHEN v2 IS NOT NULL THEN place END) AS p2, count(CASE WHEN ts >= start_3600000000 AND moment - latest <= 3600000000 THEN v3 END) AS p3, CASE WHEN count(CASE WHEN isnan(CASE WHEN ts >= start_3600000000 AND moment - latest <= 3600000000 THEN v4 END) THEN 1 END) > 0 THEN CAST('NaN' AS double) ELSE max(CASE WHEN NOT isnan(CASE WHEN ts >= start_3600000000 AND moment - latest <= 3600000000 THEN v4 END) THEN CASE WHEN ts >= start_3600000000 AND moment - latest <= 3600000000 THEN v4 END END) END AS p4
FROM (
SELECT *, max(begin_3600000000) OVER (PARTITION BY n) AS start_3600000000, max(ts) OVER (PARTITION BY n) AS latest
FROM (
SELECT *, row_number() OVER (PARTITION BY n ORDER BY ts, era NULLS FIRST, arrived NULLS FIRST, part NULLS FIRST) AS place, CASE WHEN ts - lag(ts) OVER (PARTITION BY n ORDER BY ts, era NULLS FIRST, arrived NULLS FIRST, part NULLS FIRST) <= 3600000000 THEN NULL ELSE ts END AS begin_3600000000
FROM (
SELECT asof_s.n AS n, asof_s.ts AS moment, asof_e.ts AS ts, asof_e.era AS era, asof_e.arrived AS arrived, asof_e.part AS part, asof_e.v0 AS v0, asof_e.v1 AS v1, asof_e.v2 AS v2, asof_e.v3 AS v3, asof_e.v4 AS v4
FROM (
SELECT `user_id` AS k0, unix_micros(`event_timestamp`) AS t, unix_micros(`event_timestamp`) AS ts, asof_n AS n
FROM asof_spine
) AS asof_s
JOIN (
SELECT `user_id` AS k0, unix_micros(CAST(`happened` AS timestamp)) AS ts, CASE WHEN coalesce(`asof_origin_partition`, `partition`) < 0 THEN 4503599628000000 ELSE CAST(coalesce(`asof_origin_partition`, `partition`) - coalesce(`asof_origin_partition`, `partition`) % 1000000 + 2000000 AS bigint) * 4503599628 END + coalesce(`asof_pushed_at`, 0) AS era, CASE WHEN `asof_pushed_at` IS NULL THEN coalesce(`asof_origin_offset`, `offset`) ELSE coalesce(`asof_origin_partition`, `partition`) END AS arrived, CASE WHEN `asof_pushed_at` IS NULL THEN coalesce(`asof_origin_partition`, `partition`) ELSE coalesce(`asof_origin_offset`, `offset`) END AS part, coalesce(CAST(`asof_pushed_at` AS BIGINT), unix_micros(`ingested_at`)) AS known, TRUE AS v0, CASE WHEN (`page` = 'x') THEN `amount` END AS v1, `page` AS v2, CASE WHEN (`page` <> 'y') THEN TRUE END AS v3, (`price` * CAST('2' AS DOUBLE)) AS v4
FROM asof_source_1
WHERE `happened` BETWEEN CAST(timestamp_micros(-62135596800000000) AS timestamp_ntz) AND CAST(timestamp_micros(253402300799999999) AS timestamp_ntz) AND `user_id` IS NOT NULL AND (`partition` = -1) = (unix_micros(CAST(`happened` AS timestamp)) < 1704067200000000)
) AS asof_e ON asof_s.k0 = asof_e.k0 AND asof_e.ts <= asof_s.ts AND asof_e.known <= asof_s.t
)
)
)
GROUP BY n
) AS asof_p ON asof_p.n = asof_m.n
) AS asof_p0 ON asof_p0.n = asof_s.asof_n
ORDER BY asof_s.asof_n
