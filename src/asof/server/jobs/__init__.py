"""Materialize jobs started over HTTP, each in its own process."""
