"""Looking after a store: audit, explain, sample, doctor, forget, compact, and the log of served features."""
