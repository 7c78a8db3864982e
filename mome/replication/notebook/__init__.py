"""What every notebook does: it takes parameters, measures, draws, and writes one result.

Start at `results`, the contract of what is written; `claims` makes the table in README.md from it.
"""
