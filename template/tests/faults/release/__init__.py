"""The next release: an application whose task the workers of this one do not know."""
