"""Entry point of `python -m dentalign`, which is the command `dentalign`."""

from dentalign.cli import main

if __name__ == "__main__":
    main()
