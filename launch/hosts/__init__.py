"""Several machines without a scheduler: who they are, whether they are alike, and the ranks of each."""
