"""What Keylift knows about armatures: which bone is which part of a body, and how to turn it. Never imports bpy."""
