"""Alignment networks as others publish them, written anew from their papers: peers for `attention`."""
