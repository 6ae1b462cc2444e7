SELECT "at" FROM archive WHERE false
