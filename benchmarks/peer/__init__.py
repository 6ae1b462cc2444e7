"""The same jobs by Asof and by Feast, each in an environment of its own."""
