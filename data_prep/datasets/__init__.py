"""One module per dataset: what its release looks like, and how an image of it is read."""
