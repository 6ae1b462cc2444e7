"""Backups: what cannot be computed again, written to one place and read back."""
