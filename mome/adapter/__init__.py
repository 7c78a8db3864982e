"""The model: a PEFT adapter whose experts are chosen for each question.

Start at `model` (what PEFT asks of a method), then `hooks` (one forward pass), `layer` (what experts add) and `router`
(which experts are chosen). `config` has the settings, `bank` the experts' rows, `index` the search for the nearest
keys, `anchors` the memorized questions and the threshold below which no expert is used. `saving` writes and verifies
the adapter's folder; `guards` refuse uses that cannot work.
"""
