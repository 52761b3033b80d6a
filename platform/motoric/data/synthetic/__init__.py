"""SYNTHETIC: an articulated figure, its video and what a sensor on it would measure."""
