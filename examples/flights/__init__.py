"""The demo: one workflow on the flights of 2013, under three storage designs."""
