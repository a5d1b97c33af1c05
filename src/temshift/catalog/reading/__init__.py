"""Reading one image from a file of any format of the field."""
