SELECT DISTINCT "text", "b""ig" FROM source WHERE "text" IS NOT NULL AND "b""ig" IS NOT NULL
