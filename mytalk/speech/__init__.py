"""What is heard, and who is seen to say it: speech, music, and lips that move with the sound."""
