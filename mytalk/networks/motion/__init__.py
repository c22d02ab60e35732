"""Stage 1, speech to motion: a diffusion model that generates the lower face from speech (paper, Sec. 3.2).

The upper face and the head's pose stay clean and are inputs of the network; only the lower-face points are
noised ("partially noised landmark"). The person's own way of moving comes from another stretch of their
landmarks, encoded and attended to in every block.

Shape suffixes of all its files: B batch, T frames, N all 478 landmarks, K noised landmarks, C clean landmarks,
U source frames, M condition tokens, D features, F features of a frame before they are encoded, S audio samples,
2 = (x, y) in the head's frame (mytalk/face/pose.py), 3 = (x, y, z) in the crop.
"""
