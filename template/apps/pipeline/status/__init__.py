"""The status of each part of the pipeline, for the doctor, the probes and the page."""
