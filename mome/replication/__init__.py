"""The replication of the paper: its experiments, its notebooks and the benchmarks.

Start at `paper`, with one folder for each notebook, named as the notebook is without its number. Beside it is what
several notebooks need: `methods` that answer questions, `experiments`, `scoring` on public sets, `pretraining` of the
shipped backbones, `counting` of FLOPs, `notebook` for what every notebook does. `reproduce` runs them all, `bench`
measures times, `faults` kills and damages on purpose. No other room but `cli` imports this one.
"""
