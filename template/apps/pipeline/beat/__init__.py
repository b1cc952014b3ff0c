"""Schedulers that extend those of the libraries: only one of several Beats sends tasks."""
