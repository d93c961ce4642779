"""Random changes of training images, together with their boxes or labels."""
