"""Causal language models, with or without an adapter: loading, encoding, losses, generation.

Start at `loading` (a backbone and its tokenizer), `encoding` (questions and answers as token batches) and `losses` (the
loss of answer tokens). `generation` answers questions, `quiz` asks with four choices, `statistics` has the intervals.
`prompts` has the form in which a backbone is asked; `round_trip` and `writable` find what it cannot hold. Nothing here knows of memory experts.
"""
