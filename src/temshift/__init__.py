"""temshift: how TEM segmentation networks fail when the microscope or the sample changes."""

__version__ = "0.1.0"
