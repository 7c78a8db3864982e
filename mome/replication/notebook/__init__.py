"""What every notebook does: it takes parameters, measures, draws, and writes one result.

Start at `session`, which is what a notebook calls, and `results`, the contract of what it writes. `parameters` reads a
notebook's parameters and `parameter_ranges` bounds them; `tables` keeps long measurements, `style` is how figures look,
`claims` reads the paper's claims.
"""
