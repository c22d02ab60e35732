"""Schedulers and clouds: what each is given so that it runs a training, from one description of the job."""
