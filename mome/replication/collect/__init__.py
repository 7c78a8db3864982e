"""All tables of the real model, measured by `mome collect`, several at a time.

Start at `measurements`, the list of the commands; `schedule` runs them and says what became of each.
"""
