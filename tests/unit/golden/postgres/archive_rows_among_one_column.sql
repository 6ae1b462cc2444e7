SELECT * FROM archive WHERE ("text") IN (SELECT "name" FROM requested)
