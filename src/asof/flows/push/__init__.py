"""Pushes: rows that a program writes to the store."""
