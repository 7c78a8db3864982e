"""Phase 2 over several processes that torchrun starts: the ranks. Without torchrun nothing here takes part.

Start at `trainer`, the loop of rounds. `group` joins the ranks and makes all their exchanges, `pulse` finds out which
rank is gone, `rows` moves rows of the bank between a rank and their owners, and `dealing` says which facts a rank
trains in a round.
"""
