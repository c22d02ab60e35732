"""What moves the weights: DeepSpeed, the ranks, and the watchdog over them."""
