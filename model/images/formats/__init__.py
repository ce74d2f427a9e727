"""The image formats that are read, one file each."""
