"""Facts: one question with one answer each, and the files they are read from.

Start at `fact` (the class `Fact`, and how facts are split) and `readers` (files of facts, read strictly). `shipped` has
the facts that come with the project, `public_sets` TruthfulQA and MMLU. `typing_key` compares questions whatever their
typing, `typing_variations` makes such variations. `crossed` makes facts from facts for a router to learn from, `names`
compares the words of questions.
"""
