"""The server's processes: a supervisor and its workers; and the state that a worker's requests share."""
