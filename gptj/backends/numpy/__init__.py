"""GPT-J in NumPy alone: the maths of the oracle, in float32. It is there without any framework."""
