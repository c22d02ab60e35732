"""`python -m train RECIPE --config FILE key=value ...`: train one of the models from shards."""

import os
import sys
import traceback

from mytalk import command

COMMANDS = {
    "syncnet": ("train.recipes.syncnet", "the judge of whether speech and lips fit"),
    "identity": ("train.recipes.identity", "the extractor that knows people by their landmarks"),
    "motion": ("train.recipes.motion", "the speech-to-motion diffusion model"),
    "appearance": ("train.recipes.appearance", "the generator that paints faces from landmarks"),
}

if __name__ == "__main__":
    argv = sys.argv[1:]
    if argv and argv[0].startswith("--local_rank"):  # the deepspeed launcher puts it before our own words
        os.environ.setdefault("LOCAL_RANK", argv[0].partition("=")[2])
        argv = argv[1:]
    try:
        code = command.main("python -m train", __doc__, COMMANDS, argv)
    except Exception:
        traceback.print_exc()
        code = command.EXIT_NOT_DONE
    command.end(code)
