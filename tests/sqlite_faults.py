"""Faults of SQLite files, made by way of the driver."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest


def fill_disk(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """From here on whoever opens the file finds room for one more page in it."""
    connect = sqlite3.connect
    with connect(path) as db:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.close()

    def open_full(*arguments: Any, **options: Any) -> sqlite3.Connection:
        db = connect(*arguments, **options)
        db.execute(f"PRAGMA max_page_count = {pages + 1}")
        return db

    monkeypatch.setattr(sqlite3, "connect", open_full)
