"""Motion that lifters learn from: landmark sets, and folders of BVH and C3D files brought to the same 41 landmarks."""
