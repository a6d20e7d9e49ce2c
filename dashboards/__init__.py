"""HTML: charts and pages."""
