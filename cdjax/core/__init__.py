"""Floor 0: types, random streams, trees, images, precision and the config schema."""
