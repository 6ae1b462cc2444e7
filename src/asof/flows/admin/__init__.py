"""Administration: audit, explain, sample, doctor, forget, compact, and the feature log."""
