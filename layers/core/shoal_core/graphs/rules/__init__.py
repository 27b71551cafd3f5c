"""Gradient rules, one module per family of operators; `registry` gathers them."""
