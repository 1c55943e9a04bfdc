"""Language models: loading them, finding their neurons, reading and storing these."""
