"""Training recipes: one file per paper and data set, made to be copied. `lightdet train NAME` runs them."""
