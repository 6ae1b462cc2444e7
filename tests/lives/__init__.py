"""Random lives of whole stores through their public verbs, each value compared with the brute-force oracle.

`definitions` draws keys, sources and views, `rows` draws rows full of ties and edges, `processes` pushes from several
processes, over HTTP and by the client, and `life` lives: it keeps the rows that each side must have seen, and compares.
"""
