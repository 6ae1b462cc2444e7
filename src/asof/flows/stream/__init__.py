"""The stream worker: from the messages of a log to the archive and the online rows."""
