"""The drawn benchmark: people whom no training sees, in corpora that leave the drawn corpus along an axis each."""
