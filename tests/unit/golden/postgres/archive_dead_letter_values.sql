SELECT "partition", "offset", "value" FROM dead_letters
