"""Running studies and sweeps, and telling what came out of them."""
