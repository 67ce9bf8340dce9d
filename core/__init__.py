"""What Keylift knows about bodies, cameras, keypoints and poses. Never imports bpy."""
