"""User Interest Center of MIMN: user states that follow a stream of events."""
