SELECT * FROM archive WHERE ("text", "raw", "small", "b""ig") IN (SELECT "text", "raw", "small", "big" FROM requested)
