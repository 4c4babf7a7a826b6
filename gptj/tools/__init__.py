"""Work on whole checkpoints: convert, init, inspect, plan."""
