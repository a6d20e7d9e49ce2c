"""A team to look at before the first log of one's own: real logs that ship with the project, and the command."""
