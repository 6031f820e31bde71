"""What runs now: the HTTP service and the stream consumer. Imports nothing by itself."""
