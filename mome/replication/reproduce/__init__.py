"""`mome reproduce`: runs the notebooks, compares with what is committed, and commits what was accepted.

Start at `runner`. `plans` decides what is to run, `execution` runs one notebook under time limits (`limits`),
`comparing` compares fresh values with committed ones, `committing` replaces these.
"""
