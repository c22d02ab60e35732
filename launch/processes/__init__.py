"""The ranks of this machine, as one: started, watched, ended together."""
