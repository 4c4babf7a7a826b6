"""Matmuls on a CPU, by dtype of the weight."""
