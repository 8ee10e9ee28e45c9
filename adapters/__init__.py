"""The world behind the ports: one file a technology, named ``<port>_<technology>.py``."""
