"""The page on which trained models are looked at through their users: what they did, what is ranked, and why."""
