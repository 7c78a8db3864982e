"""Notebook 09: retrieval, prompting and memory side by side (section 4).

Start at `experiment`, a row of the table for each method. `material` has the questions that all methods get, `workshop`
makes each method, `measure` measures one; `made_up` makes facts for large stores; `metrics` and `figure` show them.
"""
