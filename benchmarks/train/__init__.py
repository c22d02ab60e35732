"""What the training loop costs: beside a bare DeepSpeed loop, waiting for data, checkpoints, two processes, MFU.

One run, on shards that it makes itself in a temporary folder. The contestants are processes, one thread of torch each,
that train the same slots with the same settings. They take turns of a few steps, round after round, and stand still
meanwhile, so that a busy machine slows them alike: what is compared is each round's ratio. Loading, validation and
export, which every run has once, are not in it. That the bare loop learns the same is asserted by its losses.

On CPU all goes slower than on a GPU by orders of magnitude, not all by the same: a small model, whose steps take some
0.3 s, stands for a large one. There a step's kernels hide what Python does between them; EMA, Adam and the gradient's
norm go by the bandwidth of memory, and a checkpoint crosses the bus. So the ratios of one say little of the other:
`--config` and `--mfu-config` with configs/paper measure on a GPU, in whose steps the contestants are synchronised at
the ends of turns only.
"""
