"""The catalog: what is applied, to be found and looked at."""
