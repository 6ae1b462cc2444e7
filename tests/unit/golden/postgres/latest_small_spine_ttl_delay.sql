WITH asof_ordered0 AS MATERIALIZED (
SELECT row_number() OVER (ORDER BY k0, ts, created NULLS FIRST, tie0 NULLS FIRST, tie1 NULLS FIRST, tie2 NULLS FIRST) AS place, k0, ts, asof_f0, asof_f1, asof_f2
FROM (
SELECT "user_id" AS k0, ("happened" AT TIME ZONE 'UTC') AS ts, coalesce("written", ("happened" AT TIME ZONE 'UTC')) AS created, CAST("amount" AS bigint) AS tie0, "price" AS tie1, ("page" COLLATE "C") AS tie2, CAST("amount" AS bigint) AS asof_f0, "price" AS asof_f1, "page" AS asof_f2
FROM "public"."orders"
WHERE isfinite("happened") AND "user_id" IS NOT NULL AND "happened" >= (timestamptz '2023-12-30 23:55:00+00:00' AT TIME ZONE 'UTC') AND "happened" <= (timestamptz '2024-02-01 00:00:00+00:00' AT TIME ZONE 'UTC') AND ("user_id") IN (SELECT "user_id" FROM asof_spine)
) AS asof_q
), asof_found0 AS MATERIALIZED (
SELECT k0, ts, n, max(place) OVER (ORDER BY k0, ts, n NULLS FIRST
  ROWS UNBOUNDED PRECEDING) AS place
FROM (
SELECT k0, ts, place, NULL::bigint AS n FROM asof_ordered0
UNION ALL
SELECT "user_id", (asof_at - interval '300000000 microseconds'), NULL::bigint, asof_n FROM asof_spine WHERE "user_id" IS NOT NULL AND asof_at IS NOT NULL
) AS asof_q
)
SELECT asof_s.asof_n, asof_l0.asof_f0 AS f0, coalesce(asof_l0.asof_f1, CAST('0.5' AS double precision)) AS f1, asof_l0.asof_f2 AS f2
FROM (SELECT * FROM asof_spine ORDER BY "user_id", asof_at) AS asof_s
LEFT JOIN (
SELECT asof_m.n, asof_r.asof_f0, asof_r.asof_f1, asof_r.asof_f2
FROM asof_found0 AS asof_m
JOIN asof_ordered0 AS asof_r ON asof_r.place = asof_m.place AND asof_r.k0 = asof_m.k0 AND asof_r.ts >= asof_m.ts - interval '86400000000 microseconds'
WHERE asof_m.n IS NOT NULL
) AS asof_l0 ON asof_l0.n = asof_s.asof_n
