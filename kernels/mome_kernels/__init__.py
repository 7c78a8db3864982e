"""The operations of the memory experts that deserve a kernel, one folder each.

They import torch and, where a kernel runs, triton; nothing else. Each operation is laid out alike:

- ``reference.py``: the definition in plain torch, which runs anywhere and is what the tests believe;
- ``triton.py``: the same operation as a Triton kernel, with its programs in ``programs.py`` where they are long;
- ``__init__.py``: the public operation, which checks its arguments; ``dispatch`` picks one of the two by device.

Import this package as ``mome.kernels``, never by its folder: ``kernels/`` has no ``__init__.py``, because libraries
that look for a package named ``kernels`` would execute it.
"""
