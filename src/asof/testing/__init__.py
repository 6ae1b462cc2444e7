"""Conformance suites for products of each protocol to subclass, and what tests of features need."""
