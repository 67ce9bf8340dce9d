"""Learning from synthetic views, as the default lifter does: windows of rays, each of another body and camera."""
