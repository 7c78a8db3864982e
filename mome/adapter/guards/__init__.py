"""Guards against misuse of a model with memory experts.

Start at `gate`, the lock between threads that ask and threads that edit. `untrained` refuses the step of an optimizer
that does not see the experts, `one_adapter` a second adapter, `received_config` a downloaded configuration that asks
for too much memory, `decoding` a KV cache or a mode of `generate` in which a prompt is not read as a whole.
"""
