WITH asof_ordered0 AS MATERIALIZED (
SELECT row_number() OVER (ORDER BY k0, ts, created NULLS FIRST, asof_f0 NULLS FIRST, asof_f1 NULLS FIRST, (asof_f2 COLLATE "C") NULLS FIRST) AS place, k0, ts, asof_f0, asof_f1, asof_f2
FROM (
SELECT "user_id" AS k0, ("happened" AT TIME ZONE 'UTC') AS ts, coalesce("written", ("happened" AT TIME ZONE 'UTC')) AS created, CAST("amount" AS bigint) AS asof_f0, "price" AS asof_f1, "page" AS asof_f2
FROM "public"."orders"
WHERE "happened" > '-infinity' AND "happened" < 'infinity' AND "user_id" IS NOT NULL AND "happened" >= (timestamptz '2023-12-30 23:55:00+00:00' AT TIME ZONE 'UTC') AND "happened" <= (timestamptz '2024-02-01 00:00:00+00:00' AT TIME ZONE 'UTC') AND ("user_id") IN (SELECT "user_id" FROM asof_spine)
) AS asof_q
), asof_found0 AS MATERIALIZED (
SELECT ts, n, max(place) OVER (PARTITION BY k0 ORDER BY ts, n NULLS FIRST ROWS UNBOUNDED PRECEDING) AS place
FROM (
SELECT k0, ts, place, NULL::bigint AS n FROM asof_ordered0
UNION ALL
SELECT "user_id", (asof_at - interval '300000000 microseconds'), NULL::bigint, asof_n FROM asof_spine
) AS asof_q
)
SELECT asof_m.n, asof_r.asof_f0 AS f0, coalesce(asof_r.asof_f1, CAST('0.5' AS double precision)) AS f1, asof_r.asof_f2 AS f2
FROM asof_found0 AS asof_m
LEFT JOIN asof_ordered0 AS asof_r ON asof_r.place = asof_m.place AND asof_m.ts IS NOT NULL AND asof_r.ts >= asof_m.ts - interval '86400000000 microseconds'
WHERE asof_m.n IS NOT NULL
