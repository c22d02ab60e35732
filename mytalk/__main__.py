"""`python -m mytalk COMMAND`: use trained models."""

import sys

from mytalk import command

COMMANDS = {
    "dub": ("mytalk.dub.command", "let the person in a video speak the words of a sound file"),
}

if __name__ == "__main__":
    sys.exit(command.main("python -m mytalk", __doc__, COMMANDS))
