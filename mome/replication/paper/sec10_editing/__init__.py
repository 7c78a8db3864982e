"""Notebook 16: single facts are edited, with the measures of the editing field (section 10).

Start at `experiment`, edits alone and in sequence. `stream` draws the edits, `public_edits` reads public ones,
`contenders` makes them by each method, `measures` asks afterwards; `metrics` and `figure` show the results.
"""
