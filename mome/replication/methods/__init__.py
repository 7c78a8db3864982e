"""Methods that answer questions from a set of facts, all with one signature.

Start at `method`, the signature. `experts` are ours; `tuned` (LoRA, full fine-tuning), `rome`, `retrieval`, `knn_lm`,
`sql` and `prompting` are what they are compared with. `search` and `reader` are the two halves of retrieval.
"""
