"""`python -m data_pipeline COMMAND`: from videos to shards that training streams."""

import sys

from mytalk import command

COMMANDS = {
    "demo": ("data_pipeline.synthetic.command", "write a corpus of drawn people who really speak"),
    "scenes": ("data_pipeline.synthetic.scenes.command", "drawn videos that extraction can fail on, with the truth"),
    "heldout": (
        "data_pipeline.synthetic.heldout.command",
        "the drawn benchmark: new people, each axis held out in turn",
    ),
    "extract": (
        "data_pipeline.extract.command",
        "videos to shards of landmarks, audio and crops, with a manifest",
    ),
    "build": ("data_pipeline.build", "all of it from one YAML: extract every corpus, merge, annotate, split, verify"),
    "index": ("data_pipeline.index.command", "a manifest over tars that others made, and over folders of ours, merged"),
    "column": ("data_pipeline.columns.command", "add features of every clip to the shards, in tars of their own"),
    "annotate": ("data_pipeline.annotate.command", "measure facts of clips later: sync, speech, copies, people"),
    "verify": ("data_pipeline.verify.command", "whether shards are what their manifest says; damage is named"),
    "split": ("data_pipeline.split.command", "assign people to train, val and unseen"),
    "stats": ("data_pipeline.stats.command", "what shards hold and what was lost on the way: a table, and a page"),
    "plan": ("data_pipeline.plan", "what a training run would read: slots, clips, windows, bytes of each rank"),
    "show": (
        "data_pipeline.show.command",
        "a clip as one picture, or a source video with tracks and verdicts drawn in",
    ),
}

if __name__ == "__main__":
    sys.exit(command.main("python -m data_pipeline", __doc__, COMMANDS))
