"""`python -m mytalk COMMAND`: use trained models."""

import sys

from mytalk import command

COMMANDS = {
    "dub": ("mytalk.dub.commands.dub", "let the person in a video speak the words of a sound file"),
    "motion": ("mytalk.dub.commands.motion", "write the landmarks that dub would paint, to look at and to edit"),
}

if __name__ == "__main__":
    sys.exit(command.main("python -m mytalk", __doc__, COMMANDS))
