"""What memory experts are compared with, one module for each method."""
