"""What the models of all backends share: loading, saving, generation, adapters, optimizers."""
