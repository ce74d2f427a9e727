"""Translates requests and responses, one file for each protocol; decides nothing."""
