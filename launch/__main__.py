"""`python -m launch COMMAND`: start the other folders' commands."""

import sys

from mytalk import command

COMMANDS = {
    "demo": ("launch.demo", "the whole chain on drawn talkers, with a table of where the time went"),
}

if __name__ == "__main__":
    sys.exit(command.main("python -m launch", __doc__, COMMANDS))
