CREATE TEMP TABLE asof__outdone_0 AS
SELECT source_row AS outdone
FROM (
  SELECT source_row, row_number() OVER (PARTITION BY k0, ts ORDER BY created DESC NULLS LAST, tie0 DESC NULLS LAST, tie1 DESC NULLS LAST, tie2 DESC NULLS LAST) AS place
  FROM (
SELECT "user_id" AS k0, ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 AS ts, CASE WHEN "written" BETWEEN make_timestamptz(-62135596800000000) AND make_timestamptz(253402300799999999) THEN epoch_us("written") ELSE ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 END AS created, "amount" AS tie0, "price" AS tie1, "page" AS tie2, asof_row AS source_row
FROM (SELECT * FROM asof_source_0 WHERE (hash(TRY_CAST("user_id" AS BIGINT)) >> 24) % 2 = 0)
WHERE "happened" IS NOT NULL AND "user_id" IS NOT NULL AND CASE WHEN "written" BETWEEN make_timestamptz(-62135596800000000) AND make_timestamptz(253402300799999999) THEN epoch_us("written") ELSE ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 END <= 1705000000000000
  )
  SEMI JOIN (
    SELECT k0, ts FROM (
SELECT "user_id" AS k0, ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 AS ts, asof_row AS source_row
FROM (SELECT * FROM asof_source_0 WHERE (hash(TRY_CAST("user_id" AS BIGINT)) >> 24) % 2 = 0)
WHERE "happened" IS NOT NULL AND "user_id" IS NOT NULL AND CASE WHEN "written" BETWEEN make_timestamptz(-62135596800000000) AND make_timestamptz(253402300799999999) THEN epoch_us("written") ELSE ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 END <= 1705000000000000
    )
    GROUP BY k0, ts HAVING count(*) > 1
  ) USING (k0, ts)
)
WHERE place > 1;

CREATE TEMP TABLE asof__found_0 AS
SELECT n, CASE WHEN ts IS NOT NULL THEN source_row END AS source_row
FROM (
  SELECT n, ts, last_value(source_row IGNORE NULLS) OVER w AS source_row
  FROM (
    SELECT k0, ts, source_row, NULL AS n FROM (
SELECT * FROM (
SELECT "user_id" AS k0, ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 AS ts, asof_row AS source_row
FROM (SELECT * FROM asof_source_0 WHERE (hash(TRY_CAST("user_id" AS BIGINT)) >> 24) % 2 = 0)
WHERE "happened" IS NOT NULL AND "user_id" IS NOT NULL AND CASE WHEN "written" BETWEEN make_timestamptz(-62135596800000000) AND make_timestamptz(253402300799999999) THEN epoch_us("written") ELSE ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 END <= 1705000000000000
) ANTI JOIN asof__outdone_0 ON outdone = source_row
    )
    UNION ALL
    SELECT * FROM (
SELECT "user_id" AS k0, epoch_us("event_timestamp") AS ts, NULL AS source_row, rowid AS n
    FROM asof_spine
) WHERE (hash(TRY_CAST(k0 AS BIGINT)) >> 24) % 2 = 0
  )
  WINDOW w AS (PARTITION BY k0 ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
)
WHERE n IS NOT NULL;
DROP TABLE asof__outdone_0;

CREATE TEMP TABLE asof__outdone_0 AS
SELECT source_row AS outdone
FROM (
  SELECT source_row, row_number() OVER (PARTITION BY k0, ts ORDER BY created DESC NULLS LAST, tie0 DESC NULLS LAST, tie1 DESC NULLS LAST, tie2 DESC NULLS LAST) AS place
  FROM (
SELECT "user_id" AS k0, ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 AS ts, CASE WHEN "written" BETWEEN make_timestamptz(-62135596800000000) AND make_timestamptz(253402300799999999) THEN epoch_us("written") ELSE ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 END AS created, "amount" AS tie0, "price" AS tie1, "page" AS tie2, asof_row AS source_row
FROM (SELECT * FROM asof_source_0 WHERE (hash(TRY_CAST("user_id" AS BIGINT)) >> 24) % 2 = 1)
WHERE "happened" IS NOT NULL AND "user_id" IS NOT NULL AND CASE WHEN "written" BETWEEN make_timestamptz(-62135596800000000) AND make_timestamptz(253402300799999999) THEN epoch_us("written") ELSE ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 END <= 1705000000000000
  )
  SEMI JOIN (
    SELECT k0, ts FROM (
SELECT "user_id" AS k0, ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 AS ts, asof_row AS source_row
FROM (SELECT * FROM asof_source_0 WHERE (hash(TRY_CAST("user_id" AS BIGINT)) >> 24) % 2 = 1)
WHERE "happened" IS NOT NULL AND "user_id" IS NOT NULL AND CASE WHEN "written" BETWEEN make_timestamptz(-62135596800000000) AND make_timestamptz(253402300799999999) THEN epoch_us("written") ELSE ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 END <= 1705000000000000
    )
    GROUP BY k0, ts HAVING count(*) > 1
  ) USING (k0, ts)
)
WHERE place > 1;

INSERT INTO asof__found_0
SELECT n, CASE WHEN ts IS NOT NULL THEN source_row END AS source_row
FROM (
  SELECT n, ts, last_value(source_row IGNORE NULLS) OVER w AS source_row
  FROM (
    SELECT k0, ts, source_row, NULL AS n FROM (
SELECT * FROM (
SELECT "user_id" AS k0, ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 AS ts, asof_row AS source_row
FROM (SELECT * FROM asof_source_0 WHERE (hash(TRY_CAST("user_id" AS BIGINT)) >> 24) % 2 = 1)
WHERE "happened" IS NOT NULL AND "user_id" IS NOT NULL AND CASE WHEN "written" BETWEEN make_timestamptz(-62135596800000000) AND make_timestamptz(253402300799999999) THEN epoch_us("written") ELSE ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 END <= 1705000000000000
) ANTI JOIN asof__outdone_0 ON outdone = source_row
    )
    UNION ALL
    SELECT * FROM (
SELECT "user_id" AS k0, epoch_us("event_timestamp") AS ts, NULL AS source_row, rowid AS n
    FROM asof_spine
) WHERE (hash(TRY_CAST(k0 AS BIGINT)) >> 24) % 2 = 1
  )
  WINDOW w AS (PARTITION BY k0 ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
)
WHERE n IS NOT NULL;
DROP TABLE asof__outdone_0;

CREATE TEMP TABLE asof__latest_0 AS
SELECT o0, o1, o2
FROM asof__found_0 found
LEFT JOIN (SELECT asof_row, "amount" AS o0, "price" AS o1, "page" AS o2 FROM asof_source_0) features ON features.asof_row = found.source_row
ORDER BY found.n;
DROP TABLE asof__found_0;

CREATE TEMP TABLE asof__ordered_0 AS
WITH moments AS (
SELECT * FROM (
SELECT "user_id" AS k0, epoch_us("event_timestamp") AS t, epoch_us("event_timestamp") AS ts, rowid AS n
FROM asof_spine
) WHERE (hash(TRY_CAST(k0 AS BIGINT)) >> 24) % 2 = 0
)
SELECT k0, ts, 0::SMALLINT AS mark, NULL AS n, era, arrived, part, v1, v2, v3, v4 FROM (
SELECT "user_id" AS k0, ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 AS ts, CASE WHEN coalesce("asof_origin_partition", "partition") < 0 THEN 4503599628000000 ELSE CAST(coalesce("asof_origin_partition", "partition") - coalesce("asof_origin_partition", "partition") % 1000000 + 2000000 AS BIGINT) * 4503599628 END + coalesce("asof_pushed_at", 0) AS era, CASE WHEN "asof_pushed_at" IS NULL THEN coalesce("asof_origin_offset", "offset") ELSE coalesce("asof_origin_partition", "partition") END AS arrived, CASE WHEN "asof_pushed_at" IS NULL THEN coalesce("asof_origin_partition", "partition") ELSE coalesce("asof_origin_offset", "offset") END AS part, asof_row AS source_row, TRUE AS v0, CASE WHEN ("page" = 'x') THEN "amount" END AS v1, "page" AS v2, CASE WHEN ("page" <> 'y') THEN TRUE END AS v3, (CASE WHEN isnan("price") THEN CAST('nan' AS DOUBLE) ELSE "price" END * CAST('2' AS DOUBLE)) AS v4
FROM (SELECT * FROM asof_source_1 WHERE (hash(TRY_CAST("user_id" AS BIGINT)) >> 24) % 2 = 0)
WHERE "happened" IS NOT NULL AND "user_id" IS NOT NULL AND ("partition" = -1) = (((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 < 1704067200000000) AND coalesce(CAST("asof_pushed_at" AS BIGINT), epoch_us("ingested_at")) <= 1705000000000000
)
UNION ALL
SELECT k0, ts, 1 AS mark, n, NULL AS era, NULL AS arrived, NULL AS part, NULL AS v1, NULL AS v2, NULL AS v3, NULL AS v4 FROM moments
UNION ALL
SELECT k0, (ts - 3600000000) - (((ts - 3600000000) % 300000000) + 300000000) % 300000000 AS ts, -1 AS mark, n, NULL AS era, NULL AS arrived, NULL AS part, NULL AS v1, NULL AS v2, NULL AS v3, NULL AS v4 FROM moments
UNION ALL
SELECT k0, (ts - 86400000000) - (((ts - 86400000000) % 3600000000) + 3600000000) % 3600000000 AS ts, -2 AS mark, n, NULL AS era, NULL AS arrived, NULL AS part, NULL AS v1, NULL AS v2, NULL AS v3, NULL AS v4 FROM moments
UNION ALL
SELECT k0, -9223372036854775808 AS ts, -3 AS mark, n, NULL AS era, NULL AS arrived, NULL AS part, NULL AS v1, NULL AS v2, NULL AS v3, NULL AS v4 FROM moments
ORDER BY k0, ts, mark, era NULLS FIRST, arrived NULLS FIRST, part NULLS FIRST;

CREATE TEMP TABLE asof__positions_0 AS
SELECT n, any_value(k0) AS k0, max(ts) FILTER (WHERE mark = 1) AS ts, max(place) FILTER (WHERE mark = 1) AS place, max(events) FILTER (WHERE mark = 1) AS events, max(count_v1) FILTER (WHERE mark = 1) AS count_v1, max(sum_v1) FILTER (WHERE mark = 1) AS sum_v1, max(count_v3) FILTER (WHERE mark = 1) AS count_v3, max(rows) FILTER (WHERE mark = 1) AS rows, max(events) FILTER (WHERE mark = -1) AS events_sliding_3600000000_300000000, max(count_v1) FILTER (WHERE mark = -2) AS count_v1_sliding_86400000000_3600000000, max(sum_v1) FILTER (WHERE mark = -2) AS sum_v1_sliding_86400000000_3600000000, max(rows) FILTER (WHERE mark = -3) AS rows_ever
FROM (
SELECT k0, ts, mark, n, rowid AS place, count(*) FILTER (WHERE mark = 0) OVER (ROWS UNBOUNDED PRECEDING) AS events, count(*) FILTER (WHERE v1 IS NOT NULL) OVER (ROWS UNBOUNDED PRECEDING) AS count_v1, sum(v1) FILTER (WHERE v1 IS NOT NULL) OVER (ROWS UNBOUNDED PRECEDING) AS sum_v1, count(*) FILTER (WHERE v3 IS NOT NULL) OVER (ROWS UNBOUNDED PRECEDING) AS count_v3, count(*) FILTER (WHERE mark >= 0) OVER (ROWS UNBOUNDED PRECEDING) AS rows
FROM asof__ordered_0
)
WHERE mark <> 0
GROUP BY n;

CREATE TEMP TABLE asof__sessions_0 AS
SELECT n, happened, count_v3_session_3600000000, rows_session_3600000000
FROM asof__positions_0 positions
JOIN (
SELECT k0, ts AS happened, events, max(CASE WHEN begins_3600000000 THEN count_v3 - (v3 IS NOT NULL)::INT END) OVER (ROWS UNBOUNDED PRECEDING) AS count_v3_session_3600000000, max(CASE WHEN begins_3600000000 THEN rows - 1 END) OVER (ROWS UNBOUNDED PRECEDING) AS rows_session_3600000000
FROM (
SELECT *, (lag(k0) OVER () IS DISTINCT FROM k0 OR ts - lag(ts) OVER () > 3600000000) AS begins_3600000000
FROM (
SELECT k0, ts, mark, v1, v2, v3, v4, count(*) FILTER (WHERE mark = 0) OVER (ROWS UNBOUNDED PRECEDING) AS events, count(*) FILTER (WHERE v3 IS NOT NULL) OVER (ROWS UNBOUNDED PRECEDING) AS count_v3, count(*) FILTER (WHERE mark >= 0) OVER (ROWS UNBOUNDED PRECEDING) AS rows
FROM asof__ordered_0
)
WHERE mark = 0
)
) latest ON latest.events = positions.events AND latest.k0 = positions.k0;

CREATE TEMP TABLE asof__numbered_0 AS
SELECT positions.n AS n, CASE WHEN positions.k0 IS NOT NULL AND positions.ts IS NOT NULL THEN (events - events_sliding_3600000000_300000000) END AS o0, CASE WHEN positions.k0 IS NOT NULL AND positions.ts IS NOT NULL THEN CASE WHEN (count_v1 - count_v1_sliding_86400000000_3600000000) > 0 THEN TRY_CAST(coalesce(sum_v1, 0) - coalesce(sum_v1_sliding_86400000000_3600000000, 0) AS BIGINT) END END AS o1, CASE WHEN positions.k0 IS NOT NULL AND positions.ts IS NOT NULL THEN w0 END AS o2, CASE WHEN positions.k0 IS NOT NULL AND positions.ts IS NOT NULL THEN CASE WHEN positions.ts - happened <= 3600000000 THEN (count_v3 - count_v3_session_3600000000) ELSE 0 END END AS o3, CASE WHEN positions.k0 IS NOT NULL AND positions.ts IS NOT NULL THEN CASE WHEN positions.ts - happened <= 3600000000 THEN w1 END END AS o4
FROM asof__positions_0 positions LEFT JOIN asof__sessions_0 sessions ON sessions.n = positions.n
JOIN (
SELECT n, arg_max(v2, place) OVER ever AS w0, max(v4) OVER session_3600000000 AS w1
FROM (
SELECT k0, rowid AS place, NULL AS n, v2, v4, 0::UINTEGER AS reach_ever, 0::UINTEGER AS reach_session_3600000000 FROM asof__ordered_0 WHERE mark = 0
UNION ALL
SELECT positions.k0, positions.place, positions.n, NULL AS v2, NULL AS v4, coalesce(rows - rows_ever - 1, 0)::UINTEGER AS reach_ever, coalesce(rows - rows_session_3600000000 - 1, 0)::UINTEGER AS reach_session_3600000000 FROM asof__positions_0 positions LEFT JOIN asof__sessions_0 sessions ON sessions.n = positions.n
)
WINDOW ever AS (PARTITION BY k0 ORDER BY place ROWS BETWEEN reach_ever PRECEDING AND CURRENT ROW), session_3600000000 AS (PARTITION BY k0 ORDER BY place ROWS BETWEEN reach_session_3600000000 PRECEDING AND CURRENT ROW)
QUALIFY n IS NOT NULL
) framed ON framed.n = positions.n;
DROP TABLE asof__ordered_0;
DROP TABLE asof__positions_0;
DROP TABLE asof__sessions_0;

CREATE TEMP TABLE asof__ordered_0 AS
WITH moments AS (
SELECT * FROM (
SELECT "user_id" AS k0, epoch_us("event_timestamp") AS t, epoch_us("event_timestamp") AS ts, rowid AS n
FROM asof_spine
) WHERE (hash(TRY_CAST(k0 AS BIGINT)) >> 24) % 2 = 1
)
SELECT k0, ts, 0::SMALLINT AS mark, NULL AS n, era, arrived, part, v1, v2, v3, v4 FROM (
SELECT "user_id" AS k0, ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 AS ts, CASE WHEN coalesce("asof_origin_partition", "partition") < 0 THEN 4503599628000000 ELSE CAST(coalesce("asof_origin_partition", "partition") - coalesce("asof_origin_partition", "partition") % 1000000 + 2000000 AS BIGINT) * 4503599628 END + coalesce("asof_pushed_at", 0) AS era, CASE WHEN "asof_pushed_at" IS NULL THEN coalesce("asof_origin_offset", "offset") ELSE coalesce("asof_origin_partition", "partition") END AS arrived, CASE WHEN "asof_pushed_at" IS NULL THEN coalesce("asof_origin_partition", "partition") ELSE coalesce("asof_origin_offset", "offset") END AS part, asof_row AS source_row, TRUE AS v0, CASE WHEN ("page" = 'x') THEN "amount" END AS v1, "page" AS v2, CASE WHEN ("page" <> 'y') THEN TRUE END AS v3, (CASE WHEN isnan("price") THEN CAST('nan' AS DOUBLE) ELSE "price" END * CAST('2' AS DOUBLE)) AS v4
FROM (SELECT * FROM asof_source_1 WHERE (hash(TRY_CAST("user_id" AS BIGINT)) >> 24) % 2 = 1)
WHERE "happened" IS NOT NULL AND "user_id" IS NOT NULL AND ("partition" = -1) = (((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 < 1704067200000000) AND coalesce(CAST("asof_pushed_at" AS BIGINT), epoch_us("ingested_at")) <= 1705000000000000
)
UNION ALL
SELECT k0, ts, 1 AS mark, n, NULL AS era, NULL AS arrived, NULL AS part, NULL AS v1, NULL AS v2, NULL AS v3, NULL AS v4 FROM moments
UNION ALL
SELECT k0, (ts - 3600000000) - (((ts - 3600000000) % 300000000) + 300000000) % 300000000 AS ts, -1 AS mark, n, NULL AS era, NULL AS arrived, NULL AS part, NULL AS v1, NULL AS v2, NULL AS v3, NULL AS v4 FROM moments
UNION ALL
SELECT k0, (ts - 86400000000) - (((ts - 86400000000) % 3600000000) + 3600000000) % 3600000000 AS ts, -2 AS mark, n, NULL AS era, NULL AS arrived, NULL AS part, NULL AS v1, NULL AS v2, NULL AS v3, NULL AS v4 FROM moments
UNION ALL
SELECT k0, -9223372036854775808 AS ts, -3 AS mark, n, NULL AS era, NULL AS arrived, NULL AS part, NULL AS v1, NULL AS v2, NULL AS v3, NULL AS v4 FROM moments
ORDER BY k0, ts, mark, era NULLS FIRST, arrived NULLS FIRST, part NULLS FIRST;

CREATE TEMP TABLE asof__positions_0 AS
SELECT n, any_value(k0) AS k0, max(ts) FILTER (WHERE mark = 1) AS ts, max(place) FILTER (WHERE mark = 1) AS place, max(events) FILTER (WHERE mark = 1) AS events, max(count_v1) FILTER (WHERE mark = 1) AS count_v1, max(sum_v1) FILTER (WHERE mark = 1) AS sum_v1, max(count_v3) FILTER (WHERE mark = 1) AS count_v3, max(rows) FILTER (WHERE mark = 1) AS rows, max(events) FILTER (WHERE mark = -1) AS events_sliding_3600000000_300000000, max(count_v1) FILTER (WHERE mark = -2) AS count_v1_sliding_86400000000_3600000000, max(sum_v1) FILTER (WHERE mark = -2) AS sum_v1_sliding_86400000000_3600000000, max(rows) FILTER (WHERE mark = -3) AS rows_ever
FROM (
SELECT k0, ts, mark, n, rowid AS place, count(*) FILTER (WHERE mark = 0) OVER (ROWS UNBOUNDED PRECEDING) AS events, count(*) FILTER (WHERE v1 IS NOT NULL) OVER (ROWS UNBOUNDED PRECEDING) AS count_v1, sum(v1) FILTER (WHERE v1 IS NOT NULL) OVER (ROWS UNBOUNDED PRECEDING) AS sum_v1, count(*) FILTER (WHERE v3 IS NOT NULL) OVER (ROWS UNBOUNDED PRECEDING) AS count_v3, count(*) FILTER (WHERE mark >= 0) OVER (ROWS UNBOUNDED PRECEDING) AS rows
FROM asof__ordered_0
)
WHERE mark <> 0
GROUP BY n;

CREATE TEMP TABLE asof__sessions_0 AS
SELECT n, happened, count_v3_session_3600000000, rows_session_3600000000
FROM asof__positions_0 positions
JOIN (
SELECT k0, ts AS happened, events, max(CASE WHEN begins_3600000000 THEN count_v3 - (v3 IS NOT NULL)::INT END) OVER (ROWS UNBOUNDED PRECEDING) AS count_v3_session_3600000000, max(CASE WHEN begins_3600000000 THEN rows - 1 END) OVER (ROWS UNBOUNDED PRECEDING) AS rows_session_3600000000
FROM (
SELECT *, (lag(k0) OVER () IS DISTINCT FROM k0 OR ts - lag(ts) OVER () > 3600000000) AS begins_3600000000
FROM (
SELECT k0, ts, mark, v1, v2, v3, v4, count(*) FILTER (WHERE mark = 0) OVER (ROWS UNBOUNDED PRECEDING) AS events, count(*) FILTER (WHERE v3 IS NOT NULL) OVER (ROWS UNBOUNDED PRECEDING) AS count_v3, count(*) FILTER (WHERE mark >= 0) OVER (ROWS UNBOUNDED PRECEDING) AS rows
FROM asof__ordered_0
)
WHERE mark = 0
)
) latest ON latest.events = positions.events AND latest.k0 = positions.k0;

INSERT INTO asof__numbered_0
SELECT positions.n AS n, CASE WHEN positions.k0 IS NOT NULL AND positions.ts IS NOT NULL THEN (events - events_sliding_3600000000_300000000) END AS o0, CASE WHEN positions.k0 IS NOT NULL AND positions.ts IS NOT NULL THEN CASE WHEN (count_v1 - count_v1_sliding_86400000000_3600000000) > 0 THEN TRY_CAST(coalesce(sum_v1, 0) - coalesce(sum_v1_sliding_86400000000_3600000000, 0) AS BIGINT) END END AS o1, CASE WHEN positions.k0 IS NOT NULL AND positions.ts IS NOT NULL THEN w0 END AS o2, CASE WHEN positions.k0 IS NOT NULL AND positions.ts IS NOT NULL THEN CASE WHEN positions.ts - happened <= 3600000000 THEN (count_v3 - count_v3_session_3600000000) ELSE 0 END END AS o3, CASE WHEN positions.k0 IS NOT NULL AND positions.ts IS NOT NULL THEN CASE WHEN positions.ts - happened <= 3600000000 THEN w1 END END AS o4
FROM asof__positions_0 positions LEFT JOIN asof__sessions_0 sessions ON sessions.n = positions.n
JOIN (
SELECT n, arg_max(v2, place) OVER ever AS w0, max(v4) OVER session_3600000000 AS w1
FROM (
SELECT k0, rowid AS place, NULL AS n, v2, v4, 0::UINTEGER AS reach_ever, 0::UINTEGER AS reach_session_3600000000 FROM asof__ordered_0 WHERE mark = 0
UNION ALL
SELECT positions.k0, positions.place, positions.n, NULL AS v2, NULL AS v4, coalesce(rows - rows_ever - 1, 0)::UINTEGER AS reach_ever, coalesce(rows - rows_session_3600000000 - 1, 0)::UINTEGER AS reach_session_3600000000 FROM asof__positions_0 positions LEFT JOIN asof__sessions_0 sessions ON sessions.n = positions.n
)
WINDOW ever AS (PARTITION BY k0 ORDER BY place ROWS BETWEEN reach_ever PRECEDING AND CURRENT ROW), session_3600000000 AS (PARTITION BY k0 ORDER BY place ROWS BETWEEN reach_session_3600000000 PRECEDING AND CURRENT ROW)
QUALIFY n IS NOT NULL
) framed ON framed.n = positions.n;
DROP TABLE asof__ordered_0;
DROP TABLE asof__positions_0;
DROP TABLE asof__sessions_0;

CREATE TEMP TABLE asof__windows_0 AS
SELECT o0, o1, o2, o3, o4
FROM asof__numbered_0
ORDER BY n;
DROP TABLE asof__numbered_0;

SELECT asof_spine."user_id", asof_spine."event_timestamp", asof__windows_0.o0 AS "windows__n_1h", asof__windows_0.o1 AS "windows__sum_1d", asof__windows_0.o2 AS "windows__last_ever", asof__windows_0.o3 AS "windows__session_views", asof__windows_0.o4 AS "windows__session_max", asof__latest_0.o0 AS "latest__amount", coalesce(asof__latest_0.o1, CAST('0.5' AS DOUBLE)) AS "latest__price", asof__latest_0.o2 AS "latest__page"
FROM asof_spine
POSITIONAL JOIN asof__latest_0
POSITIONAL JOIN asof__windows_0
