"""The commands of `asof`: each asks the store and hands the result to the output."""
