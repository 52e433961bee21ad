"""A face in a picture: found, followed, measured. Nothing here draws."""
