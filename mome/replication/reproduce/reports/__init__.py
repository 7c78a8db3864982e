"""What `mome reproduce` leaves to be read.

Start at `last_screen`, which prints the end of a run. `record` is the report for programs (JSON), `page` the one to
look at (HTML, each figure fresh beside committed), `run_sheet` the committed table of seconds and memory.
"""
