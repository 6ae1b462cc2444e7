SELECT * FROM archive WHERE 0 = 0 AND (false)
