SELECT count(*) - count("text") AS "text", count(*) - count("b""ig") AS "b""ig" FROM source
