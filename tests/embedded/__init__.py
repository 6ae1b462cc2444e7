"""Tests on the embedded products: DuckDB, Delta, SQLite, the file log. No server is needed."""
