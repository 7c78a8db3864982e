"""Pretraining of the shipped backbones.

Start at `pretrain`. `corpus` is the text that they read, `settings` has the recipes, `abilities` measures the result
and writes the model card.
"""
