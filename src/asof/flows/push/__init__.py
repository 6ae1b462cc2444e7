"""Pushes: rows that a program gives to the store."""
