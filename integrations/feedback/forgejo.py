"""Forgejo: comments and commit statuses by the API that it shares with Gitea.

Defined at https://forgejo.org/docs/latest/user/api-usage/.
"""

from integrations.feedback.gitea import make_gitea

FORGE = make_gitea
