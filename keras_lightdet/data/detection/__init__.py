"""Images with labeled boxes."""
