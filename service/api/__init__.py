"""The routes of the JSON API, with the models of their answers beside them."""
