CREATE TEMP TABLE asof__found_0 AS
SELECT n, CASE WHEN found_ts >= ts - 86400000000 THEN source_row END AS source_row
FROM (
  SELECT n, ts, last_value(source_row IGNORE NULLS) OVER w AS source_row, last_value(CASE WHEN n IS NULL THEN ts END IGNORE NULLS) OVER w AS found_ts
  FROM (
    SELECT k0, ts, created, arrived, part, source_row, NULL AS n FROM (
SELECT "user_id" AS k0, ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 AS ts, CASE WHEN "written" BETWEEN make_timestamptz(-62135596800000000) AND make_timestamptz(253402300799999999) THEN epoch_us("written") ELSE ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 END AS created, "offset" AS arrived, "partition" AS part, asof_row AS source_row
FROM asof_source_0
WHERE "happened" IS NOT NULL AND "user_id" IS NOT NULL AND ("user_id") IN (SELECT ("user_id") FROM asof_spine)
    )
    UNION ALL
    SELECT "user_id" AS k0, epoch_us("event_timestamp") - 300000000 AS ts, 9223372036854775807 AS created, NULL AS arrived, NULL AS part, NULL AS source_row, rowid AS n
    FROM asof_spine
  )
  WINDOW w AS (PARTITION BY k0 ORDER BY ts, created NULLS FIRST, arrived NULLS FIRST, part NULLS FIRST ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
)
WHERE n IS NOT NULL;

CREATE TEMP TABLE asof__latest_0 AS
SELECT o0, o1, o2
FROM asof__found_0 found
LEFT JOIN (SELECT asof_row, "amount" AS o0, "price" AS o1, "page" AS o2 FROM asof_source_0 WHERE ("user_id") IN (SELECT ("user_id") FROM asof_spine)) features ON features.asof_row = found.source_row
ORDER BY found.n;
DROP TABLE asof__found_0;

SELECT asof_spine."user_id", asof_spine."event_timestamp", asof__latest_0.o0 AS "latest__amount", coalesce(asof__latest_0.o1, CAST('0.5' AS DOUBLE)) AS "latest__price", asof__latest_0.o2 AS "latest__page"
FROM asof_spine
POSITIONAL JOIN asof__latest_0
