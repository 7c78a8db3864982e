"""`mome bench`: each benchmark is checked, timed and written as one table. Start at `suites`."""
