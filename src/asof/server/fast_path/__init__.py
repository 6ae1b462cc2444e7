"""The fast path for a read of one row; it returns what the general way returns, byte for byte."""
