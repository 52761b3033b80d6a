"""Live sessions: samples in as they come, a prediction a hop out, over any transport."""
