"""How fast models are on this machine, beside what the machine can do at most."""
