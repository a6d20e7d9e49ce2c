"""The command line: what CI jobs and terminals call; the one part of the library that touches files and the network."""
