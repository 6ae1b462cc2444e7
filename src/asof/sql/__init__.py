"""Reads of history and of archives as SQL text, per dialect; nothing runs here."""
