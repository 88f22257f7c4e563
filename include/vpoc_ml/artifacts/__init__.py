"""Typed models of everything that is stored or passed between packages, its file names and its columns."""
