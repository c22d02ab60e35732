"""Training examples, one file a recipe, and the list of recipes.

`python -m train NAME` runs train/recipes/NAME.py; `python -m data_pipeline plan --recipe NAME` lists its windows
(windows.py). Nothing is imported here, so that `--help` is quick.
"""

RECIPES = {  # name -> what it trains; in this order, since motion uses the identity encoder, appearance the reader
    "identity": "the encoder that recognises people by their landmarks",
    "syncnet": "the network that scores how well speech and lips fit",
    "motion": "the speech-to-motion diffusion model",
    "distil": "a motion model that says in one step what another samples in many",
    "reader": "the network that reads lip points in pictures",
    "appearance": "the generator that paints faces from landmarks",
}
