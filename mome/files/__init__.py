"""Files and folders, written so that neither a kill nor a full disk leaves half of one.

Start at `atomic` (one file) and `folders` (a whole folder replaced in one act). `checkpoints` and `snapshots` keep the
state of a run, `sealed` JSON with its own checksum, `locking` refuses a second writer. `records` has the base classes
of all settings, `environment` says where a run happened.
"""
