"""Who is asking: passwords, sessions, tokens, form tokens and what each of them may do."""
