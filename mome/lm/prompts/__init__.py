"""Prompts: the form a backbone is asked in, its tokens, and the tokens by which experts are chosen.

Start at `form` (class `PromptForm`: what stands around the user's words). `frame` makes tokens of it, `marks` checks
the tokens that a model is given and finds those that a router reads.
"""
