"""`python -m mome`: the console command where its script is not on the path, as for torchrun."""

from mome.cli import app

if __name__ == "__main__":
    app()
