"""Training: phase 1 (`router`), phase 2 (`experts`), and LoRA as in the paper's appendix A (`lora`, `tuning`).

Start at `attach`, which puts a fresh adapter on a backbone, then `router` and `experts`. `settings` has all settings of
training, `optim` the optimizers of the bank's rows, `anchoring` turns questions into anchors of the router. `joint`
trains router and experts together, as an ablation, and `ranks` shares phase 2 between processes.
"""
