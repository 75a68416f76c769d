"""Sets of placed people from millions of images: built in shards, stopped and resumed at will."""
