"""HTTP: the JSON API, webhooks, sign-in, and the actions a user may take."""
