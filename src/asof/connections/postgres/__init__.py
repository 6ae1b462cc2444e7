"""PostgreSQL as several families use it: a database, its errors, our schema in it, and its types."""
