"""The processes of the server: a supervisor, its workers, and what a worker shares among its requests."""
