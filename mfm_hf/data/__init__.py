"""Domains: where labelled and unlabelled images come from, and how they are streamed."""
