"""`python -m train RECIPE --config FILE key=value ...`: train one of the models from shards."""

import os
import sys
import traceback

from data_pipeline.examples import RECIPES
from mytalk import command

COMMANDS = {name: (f"train.recipes.{name}", line) for name, line in RECIPES.items()}
COMMANDS["check"] = ("train.check", "whether the settings of several trainings hold")

if __name__ == "__main__":
    argv = sys.argv[1:]
    if argv and argv[0].startswith("--local_rank"):  # the deepspeed launcher puts it before our own words
        os.environ.setdefault("LOCAL_RANK", argv[0].partition("=")[2])
        argv = argv[1:]
    try:
        code = command.main("python -m train", __doc__, COMMANDS, argv)
    except Exception as error:
        traceback.print_exc()
        code = command.code_of(error)
    command.end(code)
