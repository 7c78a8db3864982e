"""Notebook 07: key facts at zero loss while the rest stays as before (figure 6).

Start at `experiment`, which follows one run from underfit to overfit beside memory tuning. `metrics` compares the
losses with the best ones, `figure` draws them.
"""
