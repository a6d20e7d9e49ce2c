"""Pure library: what a build did with its cache, read from its log; no network, no database."""
