"""The console command `mome`: one module for each command or group of commands.

Start at `main`, which puts the commands together. `errors` turns what the user can put right into one line and exit
code 2. Commands import what they need when called, so that `mome --help` is quick.
"""

from mome.cli.main import app

__all__ = ["app"]
