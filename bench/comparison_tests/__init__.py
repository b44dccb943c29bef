"""Tests of bench/compare: `python3 -m unittest discover -s bench -p '*_test.py'`."""
