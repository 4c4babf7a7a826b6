"""The machine and its files: processor, memory, versions, progress bars, atomic writes."""
