SELECT count(*) AS n FROM archive
