"""Requests: the ranker over its sources of state, the HTTP and the gRPC service."""
