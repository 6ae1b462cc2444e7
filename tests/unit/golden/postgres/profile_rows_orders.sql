SELECT f0, f1, ts AS asof_ts
FROM (
SELECT "user_id" AS k0, ("happened" AT TIME ZONE 'UTC') AS ts, CAST("amount" AS bigint) AS f0, "page" AS f1
FROM "public"."orders"
WHERE "happened" BETWEEN (timestamptz '0001-01-01 00:00:00+00:00' AT TIME ZONE 'UTC') AND (timestamptz '9999-12-31 23:59:59.999999+00:00' AT TIME ZONE 'UTC') AND "user_id" IS NOT NULL AND "happened" >= (timestamptz '2024-01-01 00:00:00+00:00' AT TIME ZONE 'UTC') AND "happened" <= (timestamptz '2024-02-01 00:00:00+00:00' AT TIME ZONE 'UTC')
) AS asof_q
WHERE ts <= timestamptz '2024-02-01 00:00:00+00:00' AND ts >= timestamptz '2024-01-01 00:00:00+00:00'
