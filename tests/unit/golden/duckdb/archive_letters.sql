SELECT * FROM letters
