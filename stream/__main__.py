"""`python -m stream` is `omokage`."""

from stream.cli import run

if __name__ == "__main__":
    run()
