"""``keylift bench``: what it measures beside the networks and the keyframes, and the page that tells it all."""
