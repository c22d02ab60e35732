"""Tasks that any number of processes and machines share through one folder: who does which, and who has died."""
