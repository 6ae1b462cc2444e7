"""PostgreSQL, shared by several families: a database, its errors, Asof's schema in it, and its types."""
