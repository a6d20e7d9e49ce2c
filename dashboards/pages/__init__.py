"""The pages, one module each; every module holds the `router` of its addresses."""
