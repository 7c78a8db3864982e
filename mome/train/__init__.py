"""Training: phase 1 (`router`), phase 2 (`experts`), LoRA as in the paper's appendix A (`lora`, `tuning`).

`attach` puts a fresh adapter on a backbone, `settings` says how it is trained, `optim` has the optimizers of rows.
"""
