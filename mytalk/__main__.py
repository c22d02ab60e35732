"""`python -m mytalk COMMAND`: use trained models."""

import sys

from mytalk import command

COMMANDS = {
    "dub": ("mytalk.dub.dubbing", "let the person in a video say what is in a sound file"),
}

if __name__ == "__main__":
    sys.exit(command.main("python -m mytalk", __doc__, COMMANDS))
