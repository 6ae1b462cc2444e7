"""Point-in-time reads in the SQL of DuckDB."""
