"""Drawn videos with several people, cuts, hands, music and the like, with the truth about every frame."""
