"""Tests of the SDK: what it sends, what it makes of the answers."""
