"""What the server reports of itself: counts, metrics, traces, the access log and the feature log."""
