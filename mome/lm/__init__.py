"""Causal language models, with or without an adapter: loading, encoding, losses, generation.

Start at `loading` (a backbone and its tokenizer), `encoding` (questions and answers as token batches) and `losses` (the
loss of answer tokens). `prompts` has the form in which a backbone is asked, `generation` answers questions, `quiz` asks
with four choices, `statistics` has the intervals. `round_trip` and `writable` find what a backbone cannot hold. Nothing
here knows of memory experts.
"""
