"""The commands of `asof`: each asks the store and hands the answer to the output."""
