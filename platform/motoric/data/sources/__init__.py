"""Sources that `motoric datasets build NAME` knows."""
