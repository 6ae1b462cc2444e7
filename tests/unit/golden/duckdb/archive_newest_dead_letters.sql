SELECT * FROM dead_letters ORDER BY "at" DESC, "partition", "offset" DESC LIMIT 100
