SELECT "b""ig" AS "key", "at" AS "at", "partition" AS asof_partition, "offset" AS asof_offset FROM source
