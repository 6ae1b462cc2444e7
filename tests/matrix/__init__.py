"""The matrix of values: type × value × way in × engine × online store × way out.

`cases` says what comes in and what has to come out, `runs` takes all of it through one store, `outcomes` compares. Each
cell is the value itself, a refusal that names what it refuses, or a gap, listed with its reason in `gaps`; a gap that
closes fails its test, so that the list only gets shorter.
"""
