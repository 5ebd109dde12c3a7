"""SuperSimpleNet: extractor, adaptor, anomaly generation, heads, losses."""
