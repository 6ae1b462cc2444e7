SELECT "partition", "offset", "value" FROM letters
