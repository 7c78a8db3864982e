"""The model: a PEFT adapter whose experts are chosen for each question. Start at `model`, then `layer` and `router`.

`config` has the settings, `bank` the experts' rows, `index` the search for the nearest keys; `saving` is what lies on
disk, `guards` refuse what cannot work.
"""
