CREATE TEMP TABLE asof__numbered_0 AS
SELECT n, count(v0) FILTER (WHERE ts >= (moment - 3600000000) - (((moment - 3600000000) % 300000000) + 300000000) % 300000000) AS o0, TRY_CAST(sum(v1) FILTER (WHERE ts >= (moment - 86400000000) - (((moment - 86400000000) % 3600000000) + 3600000000) % 3600000000) AS BIGINT) AS o1, arg_max(v2, place) AS o2, count(v3) FILTER (WHERE ts >= start_3600000000 AND moment - latest <= 3600000000) AS o3, max(v4) FILTER (WHERE ts >= start_3600000000 AND moment - latest <= 3600000000) AS o4
FROM (
SELECT *, max(begin_3600000000) OVER every AS start_3600000000, max(ts) OVER every AS latest
FROM (
SELECT *, row_number() OVER inorder AS place, CASE WHEN ts - lag(ts) OVER inorder <= 3600000000 THEN NULL ELSE ts END AS begin_3600000000
FROM (
SELECT spine.n, spine.ts AS moment, events.*
FROM (
SELECT * FROM (
SELECT "user_id" AS k0, epoch_us("event_timestamp") AS t, epoch_us("event_timestamp") AS ts, rowid AS n
FROM asof_spine
) WHERE (hash(TRY_CAST(k0 AS BIGINT)) >> 24) % 2 = 0
) spine
JOIN (
SELECT "user_id" AS k0, ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 AS ts, CASE WHEN coalesce("asof_origin_partition", "partition") < 0 THEN 4503599628000000 ELSE CAST(coalesce("asof_origin_partition", "partition") - coalesce("asof_origin_partition", "partition") % 1000000 + 2000000 AS BIGINT) * 4503599628 END + coalesce("asof_pushed_at", 0) AS era, CASE WHEN "asof_pushed_at" IS NULL THEN coalesce("asof_origin_offset", "offset") ELSE coalesce("asof_origin_partition", "partition") END AS arrived, CASE WHEN "asof_pushed_at" IS NULL THEN coalesce("asof_origin_partition", "partition") ELSE coalesce("asof_origin_offset", "offset") END AS part, coalesce(CAST("asof_pushed_at" AS BIGINT), epoch_us("ingested_at")) AS known, asof_row AS source_row, TRUE AS v0, CASE WHEN ("page" = 'x') THEN "amount" END AS v1, "page" AS v2, CASE WHEN ("page" <> 'y') THEN TRUE END AS v3, (CASE WHEN isnan("price") THEN CAST('nan' AS DOUBLE) ELSE "price" END * CAST('2' AS DOUBLE)) AS v4
FROM (SELECT * FROM asof_source_1 WHERE (hash(TRY_CAST("user_id" AS BIGINT)) >> 24) % 2 = 0)
WHERE "happened" IS NOT NULL AND "user_id" IS NOT NULL AND ("partition" = -1) = (((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 < 1704067200000000)
) events ON spine.k0 = events.k0 AND events.ts <= spine.ts AND events.known <= spine.t
)
WINDOW inorder AS (PARTITION BY n ORDER BY ts, era NULLS FIRST, arrived NULLS FIRST, part NULLS FIRST)
)
WINDOW every AS (PARTITION BY n)
)
GROUP BY n;

INSERT INTO asof__numbered_0
SELECT n, count(v0) FILTER (WHERE ts >= (moment - 3600000000) - (((moment - 3600000000) % 300000000) + 300000000) % 300000000) AS o0, TRY_CAST(sum(v1) FILTER (WHERE ts >= (moment - 86400000000) - (((moment - 86400000000) % 3600000000) + 3600000000) % 3600000000) AS BIGINT) AS o1, arg_max(v2, place) AS o2, count(v3) FILTER (WHERE ts >= start_3600000000 AND moment - latest <= 3600000000) AS o3, max(v4) FILTER (WHERE ts >= start_3600000000 AND moment - latest <= 3600000000) AS o4
FROM (
SELECT *, max(begin_3600000000) OVER every AS start_3600000000, max(ts) OVER every AS latest
FROM (
SELECT *, row_number() OVER inorder AS place, CASE WHEN ts - lag(ts) OVER inorder <= 3600000000 THEN NULL ELSE ts END AS begin_3600000000
FROM (
SELECT spine.n, spine.ts AS moment, events.*
FROM (
SELECT * FROM (
SELECT "user_id" AS k0, epoch_us("event_timestamp") AS t, epoch_us("event_timestamp") AS ts, rowid AS n
FROM asof_spine
) WHERE (hash(TRY_CAST(k0 AS BIGINT)) >> 24) % 2 = 1
) spine
JOIN (
SELECT "user_id" AS k0, ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 AS ts, CASE WHEN coalesce("asof_origin_partition", "partition") < 0 THEN 4503599628000000 ELSE CAST(coalesce("asof_origin_partition", "partition") - coalesce("asof_origin_partition", "partition") % 1000000 + 2000000 AS BIGINT) * 4503599628 END + coalesce("asof_pushed_at", 0) AS era, CASE WHEN "asof_pushed_at" IS NULL THEN coalesce("asof_origin_offset", "offset") ELSE coalesce("asof_origin_partition", "partition") END AS arrived, CASE WHEN "asof_pushed_at" IS NULL THEN coalesce("asof_origin_partition", "partition") ELSE coalesce("asof_origin_offset", "offset") END AS part, coalesce(CAST("asof_pushed_at" AS BIGINT), epoch_us("ingested_at")) AS known, asof_row AS source_row, TRUE AS v0, CASE WHEN ("page" = 'x') THEN "amount" END AS v1, "page" AS v2, CASE WHEN ("page" <> 'y') THEN TRUE END AS v3, (CASE WHEN isnan("price") THEN CAST('nan' AS DOUBLE) ELSE "price" END * CAST('2' AS DOUBLE)) AS v4
FROM (SELECT * FROM asof_source_1 WHERE (hash(TRY_CAST("user_id" AS BIGINT)) >> 24) % 2 = 1)
WHERE "happened" IS NOT NULL AND "user_id" IS NOT NULL AND ("partition" = -1) = (((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 < 1704067200000000)
) events ON spine.k0 = events.k0 AND events.ts <= spine.ts AND events.known <= spine.t
)
WINDOW inorder AS (PARTITION BY n ORDER BY ts, era NULLS FIRST, arrived NULLS FIRST, part NULLS FIRST)
)
WINDOW every AS (PARTITION BY n)
)
GROUP BY n;

CREATE TEMP TABLE asof__windows_0 AS
SELECT CASE WHEN spine."user_id" IS NOT NULL AND spine."event_timestamp" IS NOT NULL THEN coalesce(answers.o0, 0) END AS o0, answers.o1 AS o1, answers.o2 AS o2, CASE WHEN spine."user_id" IS NOT NULL AND spine."event_timestamp" IS NOT NULL THEN coalesce(answers.o3, 0) END AS o3, answers.o4 AS o4
FROM asof_spine spine
LEFT JOIN asof__numbered_0 answers ON answers.n = spine.rowid
ORDER BY spine.rowid;
DROP TABLE asof__numbered_0;

SELECT asof_spine."user_id", asof_spine."event_timestamp", asof__windows_0.o0 AS "windows__n_1h", asof__windows_0.o1 AS "windows__sum_1d", asof__windows_0.o2 AS "windows__last_ever", asof__windows_0.o3 AS "windows__session_views", asof__windows_0.o4 AS "windows__session_max"
FROM asof_spine
POSITIONAL JOIN asof__windows_0
