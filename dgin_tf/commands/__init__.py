"""Entry point, worker processes and memory settings that all commands share."""
