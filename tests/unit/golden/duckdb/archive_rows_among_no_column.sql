SELECT * FROM archive
