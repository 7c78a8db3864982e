"""Experiments on a real language model, whose runs take minutes: each is a table that `mome table` measures.

Start at `memorizing`, the runs of LoRA and memory experts; `damaged` measures what they do to everything else,
`recognition` what a router recognizes, `layers` which layers to read and to adapt.
"""
