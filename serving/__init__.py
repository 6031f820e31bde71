"""Live scoring: the HTTP service, the stream consumer and the dashboard. This package imports nothing by itself."""
