"""The database: every table and every query except the charts' selects."""
