"""`mome bench`: each benchmark is checked, timed and written as one table.

Start at `suites`, which lists the benchmarks. `timing` measures times, `traffic` has the fewest bytes that an operation
can move, `goals` compares the tables with what must be reached. `module` is benchmark 1,
`end_to_end` and `generation` are benchmark 3, `lookup` times the choice of experts.
"""
