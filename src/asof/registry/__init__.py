"""The store of applied definitions: a protocol, and one file per product."""
