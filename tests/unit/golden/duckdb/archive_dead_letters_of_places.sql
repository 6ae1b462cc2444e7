SELECT * FROM dead_letters WHERE ("partition", "offset") IN ((0, 9), (1, 7))
