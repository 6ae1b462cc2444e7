CREATE TEMP TABLE asof_windows_0 AS
SELECT CASE WHEN k0 IS NOT NULL AND ts IS NOT NULL THEN w0 END AS "windows__n_1h", CASE WHEN k0 IS NOT NULL AND ts IS NOT NULL THEN TRY_CAST(w1 AS BIGINT) END AS "windows__sum_1d", CASE WHEN k0 IS NOT NULL AND ts IS NOT NULL THEN w2 END AS "windows__last_ever", CASE WHEN k0 IS NOT NULL AND ts IS NOT NULL THEN CASE WHEN ts + 1 - w5 <= 3600000000 THEN w3 - w4 ELSE 0 END END AS "windows__session_views", CASE WHEN k0 IS NOT NULL AND ts IS NOT NULL THEN CASE WHEN ts + 1 - w5 <= 3600000000 THEN w6 END END AS "windows__session_max"
FROM (
SELECT k0, ts, n, count(v0) OVER sliding_3600000000_300000000 AS w0, sum(v1) OVER sliding_86400000000_3600000000 AS w1, arg_max(v2, place) OVER until AS w2, max(sofar_v3) OVER until AS w3, max(before_v3_3600000000) OVER until AS w4, max(happened) OVER until AS w5, max(v4) OVER session_3600000000 AS w6
FROM (
SELECT *, CASE WHEN n IS NULL THEN 0 ELSE coalesce(ts - max(begin_3600000000) OVER until, 0) END AS reach_session_3600000000
FROM (
SELECT k0, ts, NULL AS n, v0, v1, v2, v3, v4, place, begin_3600000000, happened, sofar_v3, before_v3_3600000000, 0 AS reach_sliding_3600000000_300000000, 0 AS reach_sliding_86400000000_3600000000 FROM (
SELECT *, CASE WHEN begin_3600000000 IS NOT NULL THEN sofar_v3 - (v3 IS NOT NULL)::INT END AS before_v3_3600000000
FROM (
SELECT *, row_number() OVER inorder AS place, CASE WHEN ts - lag(ts) OVER inorder <= 3600000000 THEN NULL ELSE ts END AS begin_3600000000, ts AS happened, count(v3) OVER (inorder ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS sofar_v3
FROM (
SELECT "user_id" AS k0, ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 AS ts, "offset" AS arrived, "partition" AS part, asof_row AS source_row, TRUE AS v0, CASE WHEN ("page" = 'x') THEN "amount" END AS v1, "page" AS v2, CASE WHEN ("page" <> 'y') THEN TRUE END AS v3, ("price" * CAST('2' AS DOUBLE)) AS v4
FROM asof_source_1
WHERE "happened" IS NOT NULL AND "user_id" IS NOT NULL AND ("partition" = -1 OR ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 >= 1704067200000000) AND "offset" <= CASE "partition" WHEN -1 THEN 4611686018427387904 WHEN 0 THEN 10 WHEN 1 THEN 7 ELSE -1 END AND ("user_id") IN (SELECT ("user_id") FROM asof_spine)
)
WINDOW inorder AS (PARTITION BY k0 ORDER BY ts, arrived NULLS FIRST, part NULLS FIRST)
)
)
UNION ALL
SELECT k0, ts, n, NULL AS v0, NULL AS v1, NULL AS v2, NULL AS v3, NULL AS v4, NULL AS place, NULL AS begin_3600000000, NULL AS happened, NULL AS sofar_v3, NULL AS before_v3_3600000000, coalesce(ts - ((ts + 1 - 3600000000) - (((ts + 1 - 3600000000) % 300000000) + 300000000) % 300000000), 0) AS reach_sliding_3600000000_300000000, coalesce(ts - ((ts + 1 - 86400000000) - (((ts + 1 - 86400000000) % 3600000000) + 3600000000) % 3600000000), 0) AS reach_sliding_86400000000_3600000000 FROM (
SELECT "user_id" AS k0, epoch_us("event_timestamp") AS t, epoch_us("event_timestamp") - 60000001 AS ts, rowid AS n
FROM asof_spine
)
)
WINDOW until AS (PARTITION BY k0 ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
)
WINDOW until AS (PARTITION BY k0 ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW), sliding_3600000000_300000000 AS (PARTITION BY k0 ORDER BY ts RANGE BETWEEN reach_sliding_3600000000_300000000 PRECEDING AND CURRENT ROW), sliding_86400000000_3600000000 AS (PARTITION BY k0 ORDER BY ts RANGE BETWEEN reach_sliding_86400000000_3600000000 PRECEDING AND CURRENT ROW), session_3600000000 AS (PARTITION BY k0 ORDER BY ts RANGE BETWEEN reach_session_3600000000 PRECEDING AND CURRENT ROW)
) answers
WHERE answers.n IS NOT NULL
ORDER BY answers.n;

SELECT asof_spine."user_id", asof_spine."event_timestamp", asof_windows_0."windows__n_1h" AS "windows__n_1h", asof_windows_0."windows__sum_1d" AS "windows__sum_1d", asof_windows_0."windows__last_ever" AS "windows__last_ever", asof_windows_0."windows__session_views" AS "windows__session_views", asof_windows_0."windows__session_max" AS "windows__session_max"
FROM asof_spine
POSITIONAL JOIN asof_windows_0
