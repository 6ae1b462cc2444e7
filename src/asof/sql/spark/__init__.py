"""The third dialect: Spark's SQL, and that of engines which speak it, such as Sail."""
