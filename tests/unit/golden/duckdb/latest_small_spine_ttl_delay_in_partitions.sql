CREATE TEMP TABLE asof__outdone_0 AS
SELECT source_row AS outdone
FROM (
  SELECT source_row, row_number() OVER (PARTITION BY k0, ts ORDER BY created DESC NULLS LAST, tie0 DESC NULLS LAST, tie1 DESC NULLS LAST, tie2 DESC NULLS LAST) AS place
  FROM (
SELECT "user_id" AS k0, ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 AS ts, CASE WHEN "written" BETWEEN make_timestamptz(-62135596800000000) AND make_timestamptz(253402300799999999) THEN epoch_us("written") ELSE ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 END AS created, "amount" AS tie0, "price" AS tie1, "page" AS tie2, asof_row AS source_row
FROM (SELECT * FROM asof_source_0 WHERE (hash(TRY_CAST("user_id" AS BIGINT)) >> 24) % 2 = 0)
WHERE "happened" IS NOT NULL AND "user_id" IS NOT NULL AND ("user_id") IN (SELECT ("user_id") FROM (SELECT * FROM asof_spine WHERE (hash(TRY_CAST("user_id" AS BIGINT)) >> 24) % 2 = 0))
  )
  SEMI JOIN (
    SELECT k0, ts FROM (
SELECT "user_id" AS k0, ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 AS ts, asof_row AS source_row
FROM (SELECT * FROM asof_source_0 WHERE (hash(TRY_CAST("user_id" AS BIGINT)) >> 24) % 2 = 0)
WHERE "happened" IS NOT NULL AND "user_id" IS NOT NULL AND ("user_id") IN (SELECT ("user_id") FROM (SELECT * FROM asof_spine WHERE (hash(TRY_CAST("user_id" AS BIGINT)) >> 24) % 2 = 0))
    )
    GROUP BY k0, ts HAVING count(*) > 1
  ) USING (k0, ts)
)
WHERE place > 1;

CREATE TEMP TABLE asof__found_0 AS
SELECT n, CASE WHEN found_ts >= ts - 86400000000 THEN source_row END AS source_row
FROM (
  SELECT n, ts, last_value(source_row IGNORE NULLS) OVER w AS source_row, last_value(CASE WHEN n IS NULL THEN ts END IGNORE NULLS) OVER w AS found_ts
  FROM (
    SELECT k0, ts, source_row, NULL AS n FROM (
SELECT * FROM (
SELECT "user_id" AS k0, ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 AS ts, asof_row AS source_row
FROM (SELECT * FROM asof_source_0 WHERE (hash(TRY_CAST("user_id" AS BIGINT)) >> 24) % 2 = 0)
WHERE "happened" IS NOT NULL AND "user_id" IS NOT NULL AND ("user_id") IN (SELECT ("user_id") FROM (SELECT * FROM asof_spine WHERE (hash(TRY_CAST("user_id" AS BIGINT)) >> 24) % 2 = 0))
) ANTI JOIN asof__outdone_0 ON outdone = source_row
    )
    UNION ALL
    SELECT * FROM (
SELECT "user_id" AS k0, epoch_us("event_timestamp") - 300000000 AS ts, NULL AS source_row, rowid AS n
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
WHERE "happened" IS NOT NULL AND "user_id" IS NOT NULL AND ("user_id") IN (SELECT ("user_id") FROM (SELECT * FROM asof_spine WHERE (hash(TRY_CAST("user_id" AS BIGINT)) >> 24) % 2 = 1))
  )
  SEMI JOIN (
    SELECT k0, ts FROM (
SELECT "user_id" AS k0, ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 AS ts, asof_row AS source_row
FROM (SELECT * FROM asof_source_0 WHERE (hash(TRY_CAST("user_id" AS BIGINT)) >> 24) % 2 = 1)
WHERE "happened" IS NOT NULL AND "user_id" IS NOT NULL AND ("user_id") IN (SELECT ("user_id") FROM (SELECT * FROM asof_spine WHERE (hash(TRY_CAST("user_id" AS BIGINT)) >> 24) % 2 = 1))
    )
    GROUP BY k0, ts HAVING count(*) > 1
  ) USING (k0, ts)
)
WHERE place > 1;

INSERT INTO asof__found_0
SELECT n, CASE WHEN found_ts >= ts - 86400000000 THEN source_row END AS source_row
FROM (
  SELECT n, ts, last_value(source_row IGNORE NULLS) OVER w AS source_row, last_value(CASE WHEN n IS NULL THEN ts END IGNORE NULLS) OVER w AS found_ts
  FROM (
    SELECT k0, ts, source_row, NULL AS n FROM (
SELECT * FROM (
SELECT "user_id" AS k0, ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 AS ts, asof_row AS source_row
FROM (SELECT * FROM asof_source_0 WHERE (hash(TRY_CAST("user_id" AS BIGINT)) >> 24) % 2 = 1)
WHERE "happened" IS NOT NULL AND "user_id" IS NOT NULL AND ("user_id") IN (SELECT ("user_id") FROM (SELECT * FROM asof_spine WHERE (hash(TRY_CAST("user_id" AS BIGINT)) >> 24) % 2 = 1))
) ANTI JOIN asof__outdone_0 ON outdone = source_row
    )
    UNION ALL
    SELECT * FROM (
SELECT "user_id" AS k0, epoch_us("event_timestamp") - 300000000 AS ts, NULL AS source_row, rowid AS n
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

SELECT asof_spine."user_id", asof_spine."event_timestamp", asof__latest_0.o0 AS "latest__amount", coalesce(asof__latest_0.o1, CAST('0.5' AS DOUBLE)) AS "latest__price", asof__latest_0.o2 AS "latest__page"
FROM asof_spine
POSITIONAL JOIN asof__latest_0
