"""How workers share a network's gradients, parameters and optimiser state."""
