"""Image bytes to pixels, and pixels to the shapes the models take."""
