"""BOLD: files, cleaning, the clock of the scan, templates, data sets, simulation."""
