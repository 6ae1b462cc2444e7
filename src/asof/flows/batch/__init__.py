"""Batch sources: materialize, direct writes, and backfill of archives."""
