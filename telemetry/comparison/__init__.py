"""What compare.py makes of run directories: statistics, tables, pictures, a page. Needs no TensorFlow."""
