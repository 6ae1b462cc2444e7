"""Defaults of options that several take: the store, the products below it, and the command line above it."""

from __future__ import annotations

from typing import Literal

HISTORY_COMMITS = 20
"""How many of the newest commits a registry's history shows."""

USE_DAYS = 30
"""Over how many days the use of features is shown."""

RUNS = 20
"""How many of the newest runs are listed."""

DEAD_LETTERS = 100
"""How many dead letters are listed."""

SAMPLE_ROWS = 10
"""How many rows or entities a sample holds."""

PROFILE_ROWS = 10_000
"""How many rows of its source an aggregated view is profiled as of."""

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

REGISTRY_STATEMENT_S, ONLINE_STATEMENT_S = 60, 30
"""How long a statement of a registry, and of an online store, in PostgreSQL may take."""

SPARK_RETRY_S = 10
"""About how long a call to a Spark Connect server is repeated while it does not respond."""

BUSY_TIMEOUT_S = 30
"""How long a write into an SQLite file waits for other writers."""

SEGMENT_BYTES = 64 << 20
"""The file log starts a new segment at this size."""

SESSION_TIMEOUT_S = 60
"""How long a consumer of the file log may be silent before its partitions are reassigned."""

STORAGE_CONNECT_TIMEOUT_S, STORAGE_TIMEOUT_S = 5, 30
"""How long a connection to object storage, and one request, may take."""

STORAGE_RETRIES, STORAGE_RETRY_S = 6, 60
"""How often a request to object storage is made again, and how long it may take with all of that."""

KAFKA_TIMEOUT_S = 10
"""How long a call of a Kafka cluster may take."""

SCHEMA_TIMEOUT_S = 10
"""How long to try to get a schema from its registry."""

WORK_MEM = "256MB"
SQL_READS: Literal["sources", "anything"] = "sources"
"""PostgreSQL's memory of one sort or hash in a read."""

POSTGRES_CONNECTIONS, POSTGRES_NAME = 10, "asof"
"""How many connections a process may have to a PostgreSQL server, and the name of its sessions."""

POSTGRES_IDLE_S, POSTGRES_CONNECT_S, POSTGRES_LOCK_S = 60, 10, 30
"""When keepalives of an idle connection start; how long to wait for a connection, and for a lock."""

REDIS_PREFIX, REDIS_CONNECTIONS, SENTINEL_MASTER = "asof:", 64, "mymaster"
"""The prefix of all keys in Redis, how many connections a process may have, and the master's name at sentinels."""

REDIS_TIMEOUT_S, REDIS_CONNECT_S, REDIS_RETRY_S = 5, 2, 15
"""How long to wait for a response of Redis and for a connection, and how long a call is retried."""

TOKEN_ALGORITHMS, TOKEN_LEEWAY_S = ("RS256", "ES256", "EdDSA"), 30
"""How tokens of an issuer may be signed, and the tolerated difference between its clock and the server's."""

NAME_CLAIM, ROLES_CLAIM = "sub", "roles"
"""The claims of a token with its caller's name, and with the roles."""
