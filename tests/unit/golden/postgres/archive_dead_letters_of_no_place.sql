SELECT * FROM letters WHERE false
