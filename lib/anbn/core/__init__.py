"""What every other package stands on: paths, parameters, artifacts, tables, blocks."""
