"""What a user may do: plain functions, called by JSON routes and HTML pages alike."""
