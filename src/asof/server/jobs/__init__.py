"""Materialize jobs that were asked for over HTTP, each in a process of its own."""
