"""The tasks that the queue names: thin, idempotent, with ids as their only arguments."""
