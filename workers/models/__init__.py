"""The model interface, the loader and the built-in models."""
