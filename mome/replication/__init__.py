"""What reproduces the paper; nothing below imports it.

`paper` has one folder for each notebook, named as the notebook is without its number. What several notebooks need lies
beside it: `methods` that answer questions, `experiments`, `scoring` on public sets, `pretraining` of the shipped
backbones, `counting` of FLOPs, `bench` for times, `notebook` for what every notebook does, `reproduce` for the command
that runs them all, `faults` for kills and damage on purpose.
"""
