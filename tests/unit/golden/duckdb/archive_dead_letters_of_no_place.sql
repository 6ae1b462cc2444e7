SELECT * FROM dead_letters WHERE false
