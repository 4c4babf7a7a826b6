"""Models as files for other runtimes, each with what was measured in that runtime."""
