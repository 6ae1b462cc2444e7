SELECT * FROM archive WHERE false
