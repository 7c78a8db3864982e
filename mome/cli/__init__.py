"""The console command `mome`: one module for each command or group of commands.

`main` puts them together and says which there are; `errors` is how a command refuses what the user can put right.
Commands import what they need when called, so that `mome --help` is quick.
"""

from mome.cli.main import app

__all__ = ["app"]
