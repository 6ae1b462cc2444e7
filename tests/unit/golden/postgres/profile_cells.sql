SELECT asof_c.place, asof_c.cell, count(*) AS n
FROM rows
CROSS JOIN LATERAL (VALUES (0, width_bucket(-(CAST(f0 AS double precision)), CAST(ARRAY[-2.5, -1.0] AS double precision[]))), (1, CASE WHEN f0 = CAST('1' AS bigint) THEN 0 WHEN f0 = CAST('9223372036854775807' AS bigint) THEN 1 END), (2, width_bucket(-(CAST(length(f3) AS double precision)), CAST(ARRAY[-3.0] AS double precision[]))), (3, CASE WHEN f3 = CAST('' AS text) THEN 0 WHEN f3 = CAST('it''s' AS text) THEN 1 END), (5, CASE WHEN f4 = CAST(TRUE AS boolean) THEN 0 WHEN f4 = CAST(FALSE AS boolean) THEN 1 END), (6, width_bucket(-(CAST(CAST(EXTRACT(EPOCH FROM f5) * 1000000 AS bigint) AS double precision)), CAST(ARRAY[-1000000000000000.0] AS double precision[])))) AS asof_c (place, cell)
WHERE asof_c.cell IS NOT NULL
GROUP BY 1, 2
