SELECT count(*) AS "rows"
FROM asof_source_0
WHERE ("happened" IS NULL OR NOT ("happened" BETWEEN make_timestamptz(-62135596800000000) AND make_timestamptz(253402300799999999))) AND CASE WHEN "written" BETWEEN make_timestamptz(-62135596800000000) AND make_timestamptz(253402300799999999) THEN epoch_us("written") >= 1000 ELSE false END
