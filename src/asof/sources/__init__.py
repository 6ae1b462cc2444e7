"""Readers of sources: a protocol, and one file per product."""
