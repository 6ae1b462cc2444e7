SELECT * FROM letters WHERE ("partition", "offset") IN ((0, 9), (1, 7))
