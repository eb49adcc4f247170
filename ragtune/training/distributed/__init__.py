"""Several processes and devices: sharded weights, what the first process does for all, memory."""
