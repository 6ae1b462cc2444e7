SELECT k0 AS k0
FROM (
SELECT DISTINCT k0
FROM (
SELECT "user_id" AS k0, ("happened" AT TIME ZONE 'UTC') AS ts, coalesce("written", ("happened" AT TIME ZONE 'UTC')) AS created, "amount" AS tie0, "price" AS tie1, ("page" COLLATE "C") AS tie2, coalesce("written", ("happened" AT TIME ZONE 'UTC')) AS known
FROM "public"."orders"
WHERE "happened" > '-infinity' AND "happened" < 'infinity' AND "user_id" IS NOT NULL AND "happened" <= (timestamptz '2024-02-01 00:00:00+00:00' AT TIME ZONE 'UTC')
) AS asof_q
WHERE ts <= timestamptz '2024-02-01 00:00:00+00:00' AND (known >= timestamptz '2024-01-01 00:00:00+00:00' OR ts >= timestamptz '2023-12-31 05:20:00+00:00')
) AS asof_q
ORDER BY (asof_q.k0 < 0), asof_q.k0
