"""Filmed and rendered people whose motion is known: what the whole way from keypoints to a pose is judged by."""
