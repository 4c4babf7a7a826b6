"""Generation: its options, the choice of the next token, and the reference decoder."""
