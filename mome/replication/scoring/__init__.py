"""Multiple-choice scores on TruthfulQA and MMLU (`mome score`).

Start at `multiple_choice`. `likelihood` scores the texts, `harness` does the same by lm-evaluation-harness, for
comparison.
"""
