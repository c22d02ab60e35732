"""Judges that nobody trained on our data: what each sees, and the files of weights behind it (configs/weights.yaml).

They are handed to the metrics in `Evaluators`; a metric whose judge is not there is omitted by name.
"""
