"""What serving keeps of people between requests: their states, and an index of what they did."""
