"""Stage 2, landmarks to pixels: a generator that paints the lower face of a frame (paper, Sec. 3.3).

It has three inputs: the landmarks to be painted, as a picture of dots; the frame with its lower face blacked
out; and a set of reference frames of the person that show nothing but their lower face. Each has an encoder.
FusionNet combines the two appearance maps; the landmark features bypass it into the decoder, so that the shape
of the mouth comes from the landmarks alone.

Outside the region the frame is kept, so only a window round it is read and painted. Points and polygons are
in crop px (the crop is 256 x 256) where nothing else is said; "window px" are those of the network's pictures.

Shape suffixes of all its files: B batch, R references, T frames, F frames of a stretch, N 478 landmarks, V vertices
of the region's polygon, H height, W width, D features, P places of a map, 3 = RGB or (x, y, z), 2 = (x, y).
"""
