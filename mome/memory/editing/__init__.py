"""Single facts of a memory are added, updated and deleted, and such edits are taken back.

Start at `editor`. `training` finds new rows for one edit, `transaction` records what it changes, `journal` keeps these
records. `holdings` says which fact owns which anchors and rows, `out_of_scope` keeps the questions that set the
rejection threshold, `saving` writes all of it beside the adapter.
"""
