"""Defaults of options that several take: the store, the products below it, and the command line above it."""

from __future__ import annotations

HISTORY_COMMITS = 20
"""How many of the newest commits a registry's history shows."""

RUNS = 20
"""How many of the newest runs are listed."""

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

MOST_DEPTH = 200
"""Maximum nesting of lists and objects: readers, here and in native code, recurse once per level."""

MESSAGE_BYTES = 8 << 20
"""How many bytes a message may have."""

EMPTY_VALUES = 100_000
"""How many values of an Avro message may take no bytes, beyond 8 for each of its bytes."""

DECIMAL_BYTES = 64
"""How many bytes a decimal of an Avro message may have."""

CHILD_MEMORY_BYTES, CHILD_TIMEOUT_S = 2 << 30, 60
"""The memory and time of a child process that takes messages which may kill it."""

SCHEMA_BYTES = 4 << 20
"""How many bytes a schema registry's response may have."""
