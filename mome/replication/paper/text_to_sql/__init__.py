"""Notebook 15: questions answered by SQL over a shipped database (the Q&A behind claim C15).

Start at `experiment`, a row for each system and split. `systems` writes SQL, from `examples` or from experts;
`execution` runs it safely, in the process of `supervisor` and `worker`; `database` is shipped; `metrics` and `figure`
show the accuracy.
"""
