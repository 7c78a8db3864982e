"""Multiple-choice scores on public sets (`mome score`), and the comparison with lm-evaluation-harness."""
