"""Who people are at their company's sign-in: OpenID Connect and GitHub."""
