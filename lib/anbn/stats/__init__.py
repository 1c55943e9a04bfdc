"""Statistics of time series, maps and subjects: surrogates, nulls, inference."""
