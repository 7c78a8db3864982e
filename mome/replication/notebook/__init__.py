"""What every notebook does: it takes parameters, measures, draws, and writes one result.

Start at `results`, the contract of what is written. `parameters` reads a notebook's parameters and `parameter_ranges`
bounds them; `tables` keeps long measurements, `style` is how figures look, `claims` makes the table in README.md.
"""
