"""The network: one outside system, one module."""
