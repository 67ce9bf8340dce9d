"""People whose motion is known, as geometry to be rendered; and what a detector makes of the pictures."""
