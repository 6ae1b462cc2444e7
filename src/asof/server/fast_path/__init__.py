"""The fast path for a read of one row; it returns the bytes of the general path."""
