"""The fit: one skeleton of constant bones, turned and moved until it agrees with everything that was seen."""
