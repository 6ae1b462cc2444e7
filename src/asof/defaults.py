"""Defaults of options that several take: the store, the products below it, and the command line above it."""

from __future__ import annotations

HISTORY_COMMITS = 20
"""How many of the newest commits a registry's history shows."""

DEAD_LETTERS = 100
"""How many dead letters are listed."""

SAMPLE_ROWS = 10
"""How many rows or entities a sample holds."""

AUDIT_KEYS = 100
"""How many keys of each view an audit compares."""

SEED = 0
"""Of what is drawn at random: the same seed draws the same again."""

BATCH_ROWS = 100_000
"""How many rows a batch of a historical read holds."""

SCAN_ROWS = 1000
"""How many rows a page of an online table holds."""

KEEP_HOURS = 7 * 24
"""How long `compact` leaves files and versions that readers may still hold."""

DEMO_USERS, DEMO_TICKS, DEMO_SEED = 1000, 50_000, 7
"""How many users the demo's shop has, for how many minutes, and the seed of its story."""

HISTORY_READS = 4
"""So many online reads of a process may look into history at once; further ones wait."""
