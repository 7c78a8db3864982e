"""What a computation takes, counted and not timed: closed forms (`flops`), torch's own count (`meter`), `work`."""
