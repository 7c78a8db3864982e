"""The ledger of the paper's claims: one rule a claim, and the verdict that it gives on the committed numbers.

Start at `rules`. A rule is a function of measured numbers; its docstring says what would make it come out each
way. `memorizing`, `forgetting`, `benchmarks`, `causes`, `cost` and `uses` hold the rules, `rule` what they are made of.
`verdicts` picks the best evidence and judges it; `table` writes all tables.
"""
