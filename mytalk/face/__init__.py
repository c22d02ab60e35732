"""A face in a picture: its landmarks, its detector, the crop, the head's pose, where a shot ends."""
