"""Generalisation: seen people against unseen people and unseen corpora, from reports of the same models."""
